//! TEI's gRPC (`proto/tei.proto`) with gRPC's health checks, on a port of its own: the same models, queue, keys and limits as over HTTP.
//!
//! A call goes the way of a request of TEI's dialect and ends in gRPC's form: statuses for failures, in whose metadata stands when to
//! come again. `authorization` carries the key, `x-embral-model` names a model, `x-embral-priority` and `x-embral-timeout-ms` are as over
//! HTTP. A stream is answered in its order; no more than [`call::AT_ONCE`] of its messages are under way, and none is read while its
//! answers are not.

mod body;
mod call;
mod embed;
mod health;
mod info;
mod listen;
mod score;
mod status;
mod tokens;

pub(crate) use listen::serve;

use crate::app::App;
use std::sync::Arc;
use tokio::sync::watch;

/// What is made of `proto/`.
#[allow(unreachable_pub, missing_docs, clippy::needless_pass_by_value)]
mod proto {
    pub(super) mod tei {
        tonic::include_proto!("tei.v1");
    }
    pub(super) mod health {
        tonic::include_proto!("grpc.health.v1");
    }
}

/// What all services share.
#[derive(Clone)]
struct Service {
    app: Arc<App>,
    /// Streams end when the server stops.
    stop: watch::Receiver<bool>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}
