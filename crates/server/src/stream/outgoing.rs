//! What waits to be sent to a client, in bounded bytes.

use super::Broken;
use crate::{
    app::App,
    body::{Room, Taken},
    failure::{Failure, Kind},
};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Of the largest body a request may have, the part that may wait for a client.
const PART_OF_BODY: usize = 4;

/// What is sent.
pub(super) enum Sent {
    /// A line of JSON.
    Line(String),
    /// Nothing but a sign of life, and a question for one.
    Ping,
    /// The end, with the code and the reason of a WebSocket.
    Close(u16, &'static str),
}

/// The place that a line has while it waits.
struct Place {
    _bytes: OwnedSemaphorePermit,
    _taken: Taken,
}

/// The side that says something. Who sends everything before it reads, as half-duplex clients do, has what comes back wait here, up to a
/// quarter of the largest body; with more of it the stream rests until its client reads.
#[derive(Clone)]
pub(super) struct Outgoing {
    sender: mpsc::UnboundedSender<(Sent, Option<Place>)>,
    bytes: Arc<Semaphore>,
    most: u32,
    /// The memory of all requests.
    room: Arc<Room>,
}

/// The side that sends it.
pub(super) struct Sending(mpsc::UnboundedReceiver<(Sent, Option<Place>)>);

/// Both sides.
pub(super) fn outgoing(app: &App) -> (Outgoing, Sending) {
    let most = u32::try_from(app.settings.body_limit / PART_OF_BODY).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
    let (sender, receiver) = mpsc::unbounded_channel();
    let bytes = Arc::new(Semaphore::new(most as usize));
    (Outgoing { sender, bytes, most, room: Arc::clone(&app.bodies.room) }, Sending(receiver))
}

impl Outgoing {
    /// Sends a line when there is room for it.
    pub(super) async fn line(&self, line: &impl Serialize) -> Result<(), Broken> {
        let line = json(line)?;
        let size = u32::try_from(line.len()).unwrap_or(u32::MAX).min(self.most);
        let mut bytes = self.acquire(size).await?;
        let mut taken = Taken::new(&self.room);
        if !taken.hold(line.len()) {
            // Others fill the memory: one line at a time is always sent.
            drop((taken.hold(0), bytes));
            bytes = self.acquire(self.most).await?;
        }
        self.send(Sent::Line(line), Some(Place { _bytes: bytes, _taken: taken }))
    }

    /// Sends a last line, whether there is room for it or not.
    pub(super) fn last(&self, line: &impl Serialize) {
        if let Ok(line) = json(line) {
            let _ = self.send(Sent::Line(line), None);
        }
    }

    pub(super) fn ping(&self) {
        let _ = self.send(Sent::Ping, None);
    }

    pub(super) fn close(&self, code: u16, reason: &'static str) {
        let _ = self.send(Sent::Close(code, reason), None);
    }

    /// Waits until nobody sends any more what is put here.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }

    async fn acquire(&self, bytes: u32) -> Result<OwnedSemaphorePermit, Broken> {
        Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map_err(|_| Broken::Gone)
    }

    fn send(&self, sent: Sent, place: Option<Place>) -> Result<(), Broken> {
        self.sender.send((sent, place)).map_err(|_| Broken::Gone)
    }
}

impl Sending {
    /// What is to be sent next; it has no place any more.
    pub(super) async fn next(&mut self) -> Option<Sent> {
        self.0.recv().await.map(|(sent, _)| sent)
    }
}

fn json(line: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(line).map_err(|e| Failure::new(Kind::Internal, format!("an answer cannot be written: {e}")))
}
