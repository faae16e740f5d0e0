//! A server without a socket: what a request is answered, for fuzzing.

use crate::{Settings, app::App, settings::Resolved};
use axum::{Router, body::Body, http::Request};
use embral_types::{Error, ErrorKind, Result};
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// A server that is asked in this process. It is no part of what is promised to stay.
#[derive(Debug)]
pub struct Offline {
    router: Router,
    runtime: Runtime,
}

impl Offline {
    /// As the settings say, its models opened when they are asked for.
    ///
    /// # Errors
    /// As [`crate::Server::start`].
    pub fn new(settings: Settings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start the runtime: {e}")))?;
        let app = App::new(Resolved::of(settings)?)?;
        app.health.started();
        Ok(Self { router: app.router(), runtime })
    }

    /// The status and the body that a request is answered with; nothing where the path is none.
    pub fn ask(&self, method: &str, path: &str, body: Vec<u8>) -> Option<(u16, Vec<u8>)> {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.body(Body::from(body)).ok()?;
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some((status, body.to_vec()))
        })
    }
}
