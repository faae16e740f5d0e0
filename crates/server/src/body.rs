//! The bodies of requests: bounded in bytes, one by one and all together, and in time.

use crate::failure::{Failure, Kind};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Bytes of bodies that are in memory at once, of all requests.
#[derive(Debug)]
pub(crate) struct Room {
    used: AtomicUsize,
    most: usize,
}

/// The bytes of one body; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), most })
    }
}

impl Taken {
    pub(crate) fn new(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), bytes: 0 }
    }

    /// Takes further bytes; whether there is room for them.
    pub(crate) fn more(&mut self, bytes: usize) -> bool {
        let used = self.room.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        used <= self.room.most
    }

    /// The bytes so far, apart from those that follow.
    #[cfg(feature = "grpc")]
    pub(crate) fn split(&mut self) -> Self {
        let follow = Self::new(&self.room);
        std::mem::replace(self, follow)
    }

    /// Takes so many bytes instead of those it has; whether there is room for them.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        let less = self.bytes.saturating_sub(bytes);
        self.room.used.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
        self.more(bytes - self.bytes)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a body may be.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    /// Between two parts of it.
    pub(crate) pause: Duration,
    pub(crate) room: Arc<Room>,
}

impl Limits {
    /// Reads a body whole.
    pub(crate) async fn read(&self, mut body: Body, length: Option<u64>) -> Result<(Bytes, Taken), Failure> {
        let too_large = || {
            let message = format!("Failed to buffer the request body: length limit exceeded ({} bytes)", self.bytes);
            Failure::new(Kind::TooLarge, message)
        };
        if length.is_some_and(|length| length > self.bytes as u64) {
            return Err(too_large());
        }
        let mut taken = Taken::new(&self.room);
        let mut whole = BytesMut::new();
        let mut first: Option<Bytes> = None;
        loop {
            let frame = tokio::time::timeout(self.pause, body.frame()).await;
            let frame = frame.map_err(|_| {
                let message = format!("no more of the body came for {} s", self.pause.as_secs());
                Failure::new(Kind::Timeout, message)
            })?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|e| Failure::new(Kind::Syntax, format!("the body broke off: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len);
            if so_far + data.len() > self.bytes {
                return Err(too_large());
            }
            if !taken.more(data.len()) {
                let mut failure =
                    Failure::new(Kind::Overloaded, "the bodies of other requests fill the memory for them");
                failure.retry_after = Some(Duration::from_secs(1));
                return Err(failure);
            }
            // Most bodies are one part, which is not copied.
            match (&first, whole.is_empty()) {
                (None, true) => first = Some(data),
                (Some(_), _) | (None, false) => {
                    if let Some(first) = first.take() {
                        whole.extend_from_slice(&first);
                    }
                    whole.extend_from_slice(&data);
                }
            }
        }
        Ok((first.unwrap_or_else(|| whole.freeze()), taken))
    }
}

/// JSON as `T`; what is wrong with it is said with its place.
pub(crate) fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| {
        let kind = match e.classify() {
            serde_json::error::Category::Data => Kind::Invalid,
            _ => Kind::Syntax,
        };
        Failure::new(kind, format!("the body is not what was expected: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bytes: usize, all: usize) -> Limits {
        Limits { bytes, pause: Duration::from_secs(5), room: Room::new(all) }
    }

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn parts(parts: &[&'static str]) -> Body {
        let parts: Vec<Result<Bytes, std::io::Error>> = parts.iter().map(|part| Ok(Bytes::from(*part))).collect();
        Body::from_stream(futures_util::stream::iter(parts))
    }

    #[test]
    fn a_body_is_its_parts_and_gives_its_room_back() {
        let limits = limits(10, 10);
        let (body, taken) = run(limits.read(parts(&["abc", "", "de", "f"]), None)).unwrap();
        assert_eq!((&body[..], limits.room.used.load(Ordering::Relaxed)), (&b"abcdef"[..], 6));
        drop(taken);
        assert_eq!(limits.room.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_too_large_is_refused_by_its_length_and_by_what_comes() {
        let limits = limits(4, 100);
        assert_eq!(run(limits.read(parts(&[]), Some(5))).unwrap_err().kind, Kind::TooLarge);
        assert_eq!(run(limits.read(parts(&["abc", "de"]), None)).unwrap_err().kind, Kind::TooLarge);
        assert_eq!(limits.room.used.load(Ordering::Relaxed), 0);
        let small = Limits { room: Room::new(3), ..limits };
        assert_eq!(run(small.read(parts(&["abcd"]), None)).unwrap_err().kind, Kind::Overloaded);
        assert_eq!(small.room.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_held_may_grow_and_shrink() {
        let room = Room::new(10);
        let (mut one, mut other) = (Taken::new(&room), Taken::new(&room));
        assert!(one.hold(6) && other.hold(4) && !other.hold(5) && one.hold(5) && other.hold(5));
        drop(one);
        assert_eq!(room.used.load(Ordering::Relaxed), 5);
        assert!(other.hold(0));
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn json_of_another_shape_is_told_from_no_json() {
        assert_eq!(json::<Vec<u32>>(b"[1, 2]").unwrap(), [1, 2]);
        assert_eq!(json::<Vec<u32>>(b"{\"a\": 1}").unwrap_err().kind, Kind::Invalid);
        for bad in [&b"[1,"[..], b"", b"\xff", &[b'['; 500]] {
            assert_eq!(json::<serde_json::Value>(bad).unwrap_err().kind, Kind::Syntax);
        }
    }
}
