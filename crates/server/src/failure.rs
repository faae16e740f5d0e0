//! What went wrong with a request, before a dialect gives it its form.

use embral::queue::{Refusal, Refused};
use embral_types::{Error, ErrorKind};
use std::{fmt, time::Duration};

/// The classes of failures; each dialect has its own status and body for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The body is no JSON.
    Syntax,
    /// The body is JSON of another shape, or asks for what cannot be.
    Invalid,
    /// Nothing was sent where something is needed.
    Empty,
    /// A text is longer than the model takes, and not to be cut.
    TooLong,
    /// More texts than a request may have.
    TooMany,
    /// A body of more bytes than a request may have.
    TooLarge,
    /// Another type of body than JSON.
    MediaType,
    /// No such path.
    NoRoute,
    /// The path is there, for another method.
    Method,
    /// No key, or none that is known.
    Unauthorized,
    /// The key may not do this, or the server is not to do it.
    Forbidden,
    /// No such model.
    NoModel,
    /// The model does not do this.
    Unsupported,
    /// The queue is full, or memory is short.
    Overloaded,
    /// The key has made more requests, or sent more tokens, than it may.
    RateLimited,
    /// The client was too slow, or the answer would come too late.
    Timeout,
    /// The server is stopping, or the model is not there yet.
    Unavailable,
    /// A fault of the server or of the model.
    Internal,
}

impl Kind {
    /// One word, as a label of metrics and in the native dialect.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Syntax | Self::Invalid | Self::Empty | Self::MediaType => "invalid_input",
            Self::TooLong => "too_long",
            Self::TooMany | Self::TooLarge => "too_large",
            Self::NoRoute | Self::NoModel | Self::Method => "not_found",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Unsupported => "unsupported",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// A failed request.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// For the client: what was expected, what was found.
    pub(crate) message: String,
    /// The text it is about, counted from 0.
    pub(crate) index: Option<usize>,
    /// The field of the request it is about.
    pub(crate) field: Option<&'static str>,
    /// When to come again.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: bounded(message.into()), index: None, field: None, retry_after: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The failure with the field that it is about.
    pub(crate) fn of_field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// The failure of the text of an index.
    pub(crate) fn of_text(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    /// `Retry-After` in whole seconds, at least one, where waiting helps.
    pub(crate) fn retry_seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| (wait.as_secs_f64().ceil() as u64).max(1))
    }
}

/// Errors of the library. What they say of files of this machine is left out: a client has no use for it.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let refused = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Refused>());
        let retry_after = refused.and_then(|refused| refused.retry_after);
        let kind = match (error.kind(), refused.map(|refused| refused.cause)) {
            (_, Some(Refusal::TooLarge)) => Kind::TooLarge,
            (_, Some(Refusal::Empty)) => Kind::Empty,
            (_, Some(Refusal::Expired)) => Kind::Timeout,
            (_, Some(Refusal::Closed)) => Kind::Unavailable,
            (_, Some(_)) | (ErrorKind::Overloaded, None) => Kind::Overloaded,
            (ErrorKind::TooLong, None) => Kind::TooLong,
            (ErrorKind::InvalidInput | ErrorKind::NotFound, None) => Kind::Invalid,
            (ErrorKind::Unsupported, None) => Kind::Unsupported,
            (ErrorKind::Network | ErrorKind::Offline, None) => Kind::Unavailable,
            _ => Kind::Internal,
        };
        let index = error
            .message()
            .strip_prefix("text ")
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()));
        Self { index, retry_after, ..Self::new(kind, error.message()) }
    }
}

/// Bytes of a message at most: what a client sent is repeated in it, to it and to the log.
const MOST: usize = 1000;

/// The beginning and the end of a message, where it is long: what was expected stands at the end.
fn bounded(message: String) -> String {
    if message.len() <= MOST {
        return message;
    }
    let (begin, end) = (message.floor_char_boundary(MOST / 2), message.ceil_char_boundary(message.len() - MOST / 2));
    format!("{} … {}", &message[..begin], &message[end..])
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_at_characters() {
        let long = "ä".repeat(5000) + " expected a text";
        let failure = Failure::invalid(long);
        assert!(failure.message.len() < MOST + 10 && failure.message.ends_with("expected a text"));
        assert_eq!(Failure::invalid("short").message, "short");
    }

    #[test]
    fn an_error_of_a_text_has_its_index() {
        let failure = Failure::from(Error::new(ErrorKind::Malformed, "text 12 gave a vector that is not finite"));
        assert_eq!((failure.kind, failure.index), (Kind::Internal, Some(12)));
        let failure = Failure::from(Error::new(ErrorKind::TooLong, "the text has 9 tokens"));
        assert_eq!((failure.kind, failure.index), (Kind::TooLong, None));
    }
}
