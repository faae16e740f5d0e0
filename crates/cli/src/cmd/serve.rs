//! `embral serve`: models behind HTTP.

use anyhow::{Context, Result};
use clap::Args;
use embral_server::{Server, Settings};
use std::path::PathBuf;

/// Serve models over HTTP: the APIs of OpenAI, TEI, Ollama, Cohere and Jina, and Embral's own
#[derive(Args, Debug)]
#[command(after_help = "A flag counts before its variable, the variable before the file, the file before the default.
SIGTERM and SIGINT end it: what it took is answered first. docs/server.md is the manual.

Examples:
  embral serve
  embral serve -m all-MiniLM-L6-v2 -m rerank=cross-encoder/ms-marco-MiniLM-L6-v2
  embral serve -m text-embedding-3-small=all-MiniLM-L6-v2 --port 11434 --api-key-file keys
  embral serve --config embral.toml --print-config")]
pub(crate) struct Flags {
    /// Read settings from this file (TOML)
    #[arg(long, value_name = "FILE", env = "EMBRAL_CONFIG")]
    config: Option<PathBuf>,
    /// Print the settings as they are in force, as a file with them would be, and end
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Threads that wait for files and tokenise large requests.
const BLOCKING_THREADS: usize = 32;

/// Runs it.
pub(crate) fn run(flags: Flags) -> Result<()> {
    let file = flags.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let settings = flags.settings.or(file).completed();
    settings.check()?;
    if flags.print_config {
        print!("{}", settings.to_toml());
        return Ok(());
    }
    let _logging = embral_server::log(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // Before anything is opened, so that a signal at any time ends it in order.
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let tls = settings.tls_cert.is_some();
    let server = tokio::select! {
        server = Server::start(settings) => server?,
        _ = term.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    eprintln!("embral: serving on {}://{}", if tls { "https" } else { "http" }, server.address());
    if let Some(address) = server.grpc_address() {
        eprintln!("embral: gRPC on {address}");
    }
    let stop = server.stopper();
    let stopped = server.stopped();
    tokio::pin!(stopped);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
        () = &mut stopped => return Ok(()),
    }
    eprintln!("embral: stopping; once more ends it at once");
    stop.stop();
    tokio::select! {
        () = &mut stopped => {}
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
