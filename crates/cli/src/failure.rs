//! How a command ends badly: the exit code and the one line on standard error.

use std::{fmt, io};

/// The command line asks for something that cannot be done as asked: exit code 2.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The run was stopped from outside, with what to do to go on: exit code 130.
#[derive(Debug)]
struct Stopped(String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stopped {}

/// An error in the command line itself.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// The end of a run that a signal stopped.
pub(crate) fn stopped(message: impl Into<String>) -> anyhow::Error {
    Stopped(message.into()).into()
}

/// The exit code of an error and its line; no line where a reader of our output has simply gone away.
pub(crate) fn verdict(error: &anyhow::Error) -> (u8, Option<String>) {
    let closed = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return (0, None);
    }
    let code = match () {
        () if error.is::<Usage>() => 2,
        () if error.is::<Stopped>() => 130,
        () => 1,
    };
    (code, Some(line(error)))
}

/// Every message of the chain that says something new, in one line.
fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if text.is_empty() || line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn the_code_is_the_kind_of_failure_and_the_line_is_one_line() {
        assert_eq!(verdict(&usage("no\nsuch flag")), (2, Some("no such flag".into())));
        assert_eq!(verdict(&usage("x").context("y")), (2, Some("y: x".into())));
        assert_eq!(verdict(&anyhow!("a").context("b: a")), (1, Some("b: a".into())));
        assert_eq!(verdict(&stopped("s")).0, 130);
        let pipe = Err::<(), _>(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot write").unwrap_err();
        assert_eq!(verdict(&pipe), (0, None));
    }
}
