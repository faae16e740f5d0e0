//! The error of every crate: what went wrong, where, and what to do about it.

use std::{fmt, path::PathBuf};

/// Shorthand for results with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of an [`Error`], for programs that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file, folder, model name or row is not there.
    NotFound,
    /// Reading or writing failed in the operating system.
    Io,
    /// Bytes or text are not of the form they must have.
    Malformed,
    /// Well-formed, but a thing that this version does not do.
    Unsupported,
    /// Two parts of a model disagree: a tensor is missing or has another shape than the configuration says.
    Mismatch,
    /// A caller's value is out of its range.
    InvalidInput,
    /// A text is longer than the model takes and truncation was refused.
    TooLong,
    /// The network or the hub did not deliver.
    Network,
    /// A network is needed and offline mode is on.
    Offline,
    /// More is asked for than there is room for now, or time: the same may succeed later.
    Overloaded,
}

/// What went wrong (`kind` and message), where (file, tensor), what to do (hint), and the error underneath, if any.
///
/// Displays on one line: `file: tensor: message (hint)`. [`std::error::Error::source`] gives the error underneath.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    file: Option<PathBuf>,
    tensor: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`. The message says what was expected and what was found.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), file: None, tensor: None, hint: None, source: None }))
    }

    /// Names the file or folder; the innermost name given stays.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.0.file.get_or_insert_with(|| file.into());
        self
    }

    /// Names the tensor; the innermost name given stays.
    #[must_use]
    pub fn in_tensor(mut self, tensor: impl Into<String>) -> Self {
        self.0.tensor.get_or_insert_with(|| tensor.into());
        self
    }

    /// Says what to do next; the innermost hint stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Keeps the error underneath. Its text is not repeated in the message: put it there where a reader needs it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// An operating-system error met while doing `what` (such as "cannot read") to `file`.
    pub fn io(what: &str, file: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let kind = if source.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        Self::new(kind, format!("{what}: {source}")).in_file(file).because(source)
    }

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without the place and the hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The file or folder it happened in.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.0.file.as_deref()
    }

    /// The tensor it is about.
    pub fn tensor(&self) -> Option<&str> {
        self.0.tensor.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.0.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(tensor) = &self.0.tensor {
            write!(f, "tensor {tensor}: ")?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        match &self.0.source {
            Some(source) => write!(f, " <- {source:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn the_line_names_file_tensor_message_and_hint() {
        let e = Error::new(ErrorKind::Mismatch, "expected [2, 3], found [3, 2]")
            .in_tensor("w")
            .in_file("m/model.safetensors")
            .in_file("m")
            .hint("re-export the model");
        assert_eq!(e.to_string(), "m/model.safetensors: tensor w: expected [2, 3], found [3, 2] (re-export the model)");
        assert!(e.source().is_none());
        let io = Error::io("cannot read", "x", std::io::ErrorKind::NotFound.into());
        assert_eq!(io.kind(), ErrorKind::NotFound);
        assert!(io.source().is_some());
    }
}
