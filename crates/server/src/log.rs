//! Where the lines of the log go, and in which form.

use crate::Settings;
use embral_types::{Error, ErrorKind, Result};
use std::io::IsTerminal;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Writes the log of the process to standard error as the settings say: for programs, once, before [`crate::Server::start`].
///
/// # Errors
/// Where the level or the form is none, or the process has a log already.
pub fn start(settings: &Settings) -> Result<()> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
    let level = settings.log.as_deref().unwrap_or("info");
    let filter: Targets = level
        .parse()
        .map_err(|e| invalid(format!("log: expected error, warn, info, debug or trace, found {level:?} ({e})")))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.log_format.as_deref().unwrap_or("text") {
        "text" => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        "json" => registry.with(lines.json().flatten_event(true)).try_init(),
        other => return Err(invalid(format!("log-format: expected text or json, found {other:?}"))),
    };
    started.map_err(|e| Error::new(ErrorKind::Unsupported, format!("the log cannot be started: {e}")))
}
