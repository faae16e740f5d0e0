//! `embral bench server`: how much load an embedding server takes.

use anyhow::{Result, bail};
use clap::Args;
use embral_bench::{
    server::{self, Dialect, Mix, Options, Shape},
    texts,
};
use std::{io::Write, num::NonZeroUsize, path::PathBuf, time::Duration};

/// Texts that are made where no file has some.
const TEXTS: usize = 1000;
/// Lines that are read of a file, where nothing else is said.
const LINES: usize = 100_000;

/// Put load on an embedding server, check its answers, and print throughput, latencies and memory
#[derive(Args, Debug)]
#[command(
    after_help = "Without --rate each client sends its next request when the last one was answered: that finds the throughput. With
--rate requests come at random times, so many a second, and latencies run from when a request was due.
The exit code is 1 where answers were wrong, requests failed by a status other than 429 and 503, or none was answered.
The key can be in EMBRAL_API_KEY as well.

Examples:
  embral bench server http://127.0.0.1:8080
  embral bench server http://127.0.0.1:8080 --rate 200 --seconds 30 --shape query
  embral bench server http://127.0.0.1:8080 --dialect embral --mix single=80,batch=10,tokenize=5,bad=5 --requests 1000000 --pid 4711"
)]
pub(super) struct Flags {
    /// The address of the server, such as http://127.0.0.1:8080
    #[arg(value_name = "URL")]
    url: String,
    /// The form of requests: embral, openai, openai-base64, tei, ollama or cohere
    #[arg(long, value_name = "NAME", default_value = "openai-base64")]
    dialect: Dialect,
    /// The name of the model in requests [default: none is named]
    #[arg(short, long, value_name = "NAME")]
    model: Option<String>,
    /// The same in rerank requests [default: that of --model]
    #[arg(long, value_name = "NAME")]
    rerank_model: Option<String>,
    /// Connections; without --rate each is always busy
    #[arg(long, value_name = "N", default_value = "64")]
    clients: usize,
    /// Texts of a request; with --mix, of a batch [default: 1, with --mix 16]
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true)]
    texts_per_request: usize,
    /// Send requests at this rate, a second, at random times
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Kinds of requests by weight: single, batch, rerank, tokenize, bad [default: texts to embed alone]
    #[arg(long, value_name = "KIND=N,...")]
    mix: Option<Mix>,
    /// How long requests are sent, in seconds
    #[arg(long, value_name = "S", default_value = "10")]
    seconds: f64,
    /// How long they are sent before it is measured, in seconds
    #[arg(long, value_name = "S", default_value = "2")]
    warm_up: f64,
    /// The most requests, those of the warm-up not counted
    #[arg(long, value_name = "N", default_value = "10000000")]
    requests: u64,
    /// The longest wait for one answer, in seconds
    #[arg(long, value_name = "S", default_value = "60")]
    timeout: u64,
    /// The lengths of the texts that are made: query, sentence, passage or mixed
    #[arg(long, value_name = "SHAPE", default_value = "sentence")]
    shape: Shape,
    /// Take the lines of a file, not texts that are made
    #[arg(short, long, value_name = "FILE", conflicts_with = "shape")]
    input: Option<PathBuf>,
    /// So many different texts, which come in turn [default: 1000, or the lines of the file]
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// The seed of texts, mix and times
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Take a vector that differs in bits from the first one of its text for wrong
    #[arg(long)]
    exact: bool,
    /// Watch the memory of the process with this number
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Send x-embral-priority: high, normal or low
    #[arg(long, value_name = "LEVEL", value_parser = ["high", "normal", "low"])]
    priority: Option<String>,
    /// Send this key
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Allow a server on another machine
    #[arg(long)]
    allow_remote: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &Flags) -> Result<()> {
    let limit = flags.limit.map(NonZeroUsize::get);
    let texts = match &flags.input {
        Some(path) => texts::read_lines(path, Some(limit.unwrap_or(LINES)))?,
        None => server::texts(flags.shape, limit.unwrap_or(TEXTS).min(LINES), flags.seed),
    };
    let report = server::run(&options(flags), &texts)?;
    let out = if flags.json { report.to_json() } else { format!("{report}\n") };
    std::io::stdout().write_all(out.as_bytes())?;
    match report.fault() {
        Some(fault) => bail!("{fault}"),
        None => Ok(()),
    }
}

fn options(flags: &Flags) -> Options {
    let key = || std::env::var("EMBRAL_API_KEY").ok().filter(|key| !key.is_empty());
    Options {
        url: flags.url.clone(),
        dialect: flags.dialect,
        model: flags.model.clone(),
        rerank_model: flags.rerank_model.clone(),
        api_key: flags.api_key.clone().or_else(key),
        priority: flags.priority.clone(),
        allow_remote: flags.allow_remote,
        clients: flags.clients,
        texts_per_request: flags.texts_per_request,
        rate: flags.rate,
        mix: flags.mix,
        requests: flags.requests,
        seconds: flags.seconds,
        warm_up: flags.warm_up,
        timeout: Duration::from_secs(flags.timeout),
        seed: flags.seed,
        exact: flags.exact,
        pid: flags.pid,
    }
}
