//! Failures as gRPC has them.

use crate::failure::{Failure, Kind};
use tonic::{Code, Status, metadata::MetadataMap};

/// The code of a failure. TEI's are the same where it has such a failure, but for faults of the model, which it calls a precondition.
pub(super) fn code(kind: Kind) -> Code {
    match kind {
        Kind::Syntax | Kind::Invalid | Kind::Empty | Kind::TooLong | Kind::TooMany | Kind::MediaType => {
            Code::InvalidArgument
        }
        Kind::NoModel => Code::NotFound,
        Kind::NoRoute | Kind::Method => Code::Unimplemented,
        Kind::Unauthorized => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Unsupported => Code::FailedPrecondition,
        Kind::TooLarge | Kind::Overloaded | Kind::RateLimited => Code::ResourceExhausted,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// A failure; `retry-after` in its metadata is in seconds.
pub(super) fn status(failure: &Failure) -> Status {
    let mut metadata = MetadataMap::new();
    if let Some(seconds) = failure.retry_seconds() {
        metadata.insert("retry-after", seconds.into());
    }
    Status::with_metadata(code(failure.kind), failure.message.clone(), metadata)
}
