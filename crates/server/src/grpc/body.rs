//! What is kept of calls that have not been read: counted with the bodies of HTTP, in the same room.

use crate::{app::App, body::Taken};
use axum::http::Request;
use futures_util::StreamExt;
use http_body_util::{BodyStream, StreamBody};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::{Status, body::Body};

/// The bytes that came for a call and belong to no message yet.
#[derive(Clone)]
pub(super) struct Held(Arc<Mutex<Taken>>);

impl Held {
    /// The bytes of the message that was read now, given back when what is returned is dropped.
    pub(super) fn of_message(&self) -> Taken {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).split()
    }
}

/// A call whose body is counted.
pub(super) fn counted(app: &App, request: Request<Body>) -> Request<Body> {
    let held = Held(Arc::new(Mutex::new(Taken::new(&app.bodies.room))));
    let count = held.clone();
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(held);
    let frames = BodyStream::new(body).map(move |frame| {
        let frame = frame?;
        let bytes = frame.data_ref().map_or(0, bytes::Bytes::len);
        match count.0.lock().unwrap_or_else(PoisonError::into_inner).more(bytes) {
            true => Ok(frame),
            false => Err(Status::resource_exhausted("the bodies of other requests fill the memory for them")),
        }
    });
    Request::from_parts(parts, Body::new(StreamBody::new(frames)))
}
