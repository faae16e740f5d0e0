//! gRPC's health checks. They ask for no key, as `/health` asks for none.

use super::{
    Service,
    call::Answers,
    proto::health::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
    },
};
use crate::{app::App, listen::stopped};
use embral::serving::Offers;
use futures_util::stream;
use std::time::Duration;
use tonic::{Request, Response, Status, async_trait};

/// How often a watcher is looked after.
const LOOK: Duration = Duration::from_secs(1);

impl Service {
    /// Whether a service answers; none where there is no such service. One for which no model is there does not.
    async fn health(&self, service: &str) -> Option<ServingStatus> {
        let there = match service {
            "" | "tei.v1.Info" | "tei.v1.Tokenize" | "grpc.health.v1.Health" => true,
            "tei.v1.Embed" => offered(&self.app, |offers| offers.dense || offers.sparse),
            "tei.v1.Predict" => offered(&self.app, |offers| offers.labels || offers.scores),
            "tei.v1.Rerank" => offered(&self.app, |offers| offers.scores),
            _ => return None,
        };
        Some(match there && self.app.ready().await.is_ok() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        })
    }
}

/// Whether a named model fits, or one that has never been open may.
fn offered(app: &App, fits: impl Fn(Offers) -> bool) -> bool {
    app.models.slots().iter().filter(|slot| slot.declared).any(|slot| slot.offers().is_none_or(&fits))
}

#[async_trait]
impl Health for Service {
    type WatchStream = Answers<HealthCheckResponse>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match self.health(&request.into_inner().service).await {
            Some(status) => Ok(Response::new(HealthCheckResponse { status: status.into() })),
            None => Err(Status::not_found("no such service")),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let watch = (self.clone(), service, None::<ServingStatus>);
        let next = async |(watched, service, last): (Self, String, Option<ServingStatus>)| {
            let mut stop = watched.stop.clone();
            loop {
                let status = watched.health(&service).await.unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(status) {
                    let answer = HealthCheckResponse { status: status.into() };
                    return Some((Ok(answer), (watched, service, Some(status))));
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = stopped(&mut stop) => return None,
                }
            }
        };
        Ok(Response::new(Box::pin(stream::unfold(watch, next))))
    }
}
