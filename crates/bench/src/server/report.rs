//! What a run found.

use super::{
    Dialect, Kind, Memory, Mix, Options, Spread,
    client::Broken,
    tally::{Judge, Tally, Unexpected},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt};

/// One kind of request.
#[derive(Clone, Debug)]
pub struct KindReport {
    /// Which.
    pub kind: Kind,
    /// Requests that were sent.
    pub requests: u64,
    /// Requests whose answer was right: for [`Kind::Bad`], a refusal.
    pub good: u64,
    /// The times of good answers.
    pub latency: Spread,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// The server.
    pub url: String,
    /// The form of requests and answers.
    pub dialect: Dialect,
    /// Connections.
    pub clients: usize,
    /// Texts of a request, or of a batch of a mix.
    pub texts_per_request: usize,
    /// Requests a second that were to come, in the open loop.
    pub rate: Option<f64>,
    /// Of what kinds, where it was asked for.
    pub mix: Option<Mix>,
    /// Of the arrivals and the mix.
    pub seed: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Requests that were sent.
    pub requests: u64,
    /// Requests whose answer was right.
    pub good: u64,
    /// Texts of which a vector came.
    pub texts: u64,
    /// Their tokens, as far as answers tell; 0 where none does.
    pub tokens: u64,
    /// Components of a vector.
    pub dimensions: Option<usize>,
    /// The times of good answers, in the open loop from when the request was due.
    pub latency: Spread,
    /// Each kind that was asked.
    pub kinds: Vec<KindReport>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub broken: BTreeMap<Broken, u64>,
    /// Answers of good requests with a status other than 200, 429 and 503, and the beginning of the first.
    pub unexpected: BTreeMap<u16, (u64, String)>,
    /// Answers that were read in full, the warm-up included.
    pub read: u64,
    /// Wrong answers, the warm-up included.
    pub wrong: u64,
    /// What was wrong with the first of them.
    pub wrongs: Vec<String>,
    /// Rows that were not bit for bit the first one of their text.
    pub differing: u64,
    /// Their lowest cosine with it; 1 where none differs.
    pub lowest_cosine: f64,
    /// In the open loop, how long after it was due a request was sent: waiting for a connection, or for this program.
    pub late: Spread,
    /// Requests of the open loop that were due, and could not be sent before the time was over.
    pub unsent: u64,
    /// The processor time of what measures, in seconds.
    pub cpu_seconds: Option<f64>,
    /// The memory of the server.
    pub memory: Option<Memory>,
}

/// What was measured around the requests.
pub(super) struct Around {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) memory: Option<Memory>,
    pub(super) late: Spread,
}

impl Report {
    pub(super) fn new(options: &Options, tally: &Tally, judge: &Judge, around: Around) -> Self {
        let kinds = Kind::ALL.into_iter().zip(&tally.kinds).filter(|(_, counts)| counts.asked > 0);
        let kinds = kinds.map(|(kind, counts)| KindReport {
            kind,
            requests: counts.asked,
            good: counts.good,
            latency: Spread::of(counts.micros.clone()),
        });
        let unexpected: Unexpected = judge.unexpected.clone();
        Self {
            url: options.url.clone(),
            dialect: options.dialect,
            clients: options.clients,
            texts_per_request: options.mix().1,
            rate: options.rate,
            mix: options.mix,
            seed: options.seed,
            seconds: around.seconds,
            requests: tally.kinds.iter().map(|counts| counts.asked).sum(),
            good: tally.kinds.iter().map(|counts| counts.good).sum(),
            texts: tally.texts,
            tokens: tally.tokens,
            dimensions: judge.dimensions(),
            latency: tally.all(),
            kinds: kinds.collect(),
            statuses: tally.statuses.clone(),
            broken: tally.broken.clone(),
            unexpected,
            read: judge.read,
            wrong: judge.wrong,
            wrongs: judge.wrongs.clone(),
            differing: judge.differing,
            lowest_cosine: judge.lowest,
            late: around.late,
            unsent: tally.unsent,
            cpu_seconds: around.cpu_seconds,
            memory: around.memory,
        }
    }

    /// Why the run is a failure, if it is one: answers were wrong, requests failed by another status than a refusal, or nothing was answered.
    pub fn fault(&self) -> Option<String> {
        if let Some(first) = self.wrongs.first() {
            return Some(format!("{} answers were wrong; the first: {first}", self.wrong));
        }
        if let Some((status, (count, text))) = self.unexpected.first_key_value() {
            return Some(format!("{count} requests failed with status {status}; the first: {text}"));
        }
        (self.good == 0).then(|| "no request was answered".to_owned())
    }

    /// The figures as one JSON object; times in milliseconds.
    pub fn to_json(&self) -> String {
        let kinds: Vec<Value> = self
            .kinds
            .iter()
            .map(|k| json!({ "kind": k.kind.name(), "requests": k.requests, "good": k.good, "latency_ms": times(&k.latency) }))
            .collect();
        let broken: BTreeMap<&str, u64> = self.broken.iter().map(|(how, count)| (how.name(), *count)).collect();
        let memory = self.memory.as_ref().map(|memory| {
            let samples = memory.samples.iter().map(|s| json!([s.seconds, s.requests, s.rss_bytes])).collect::<Vec<_>>();
            json!({ "pid": memory.pid, "gone": memory.gone, "samples": samples, "mb_per_100000_requests": memory.slope().map(mb) })
        });
        let value = json!({
            "url": self.url,
            "dialect": self.dialect.name(),
            "clients": self.clients,
            "texts_per_request": self.texts_per_request,
            "rate": self.rate,
            "mix": self.mix.map(|mix| mix.to_string()),
            "seed": self.seed,
            "seconds": self.seconds,
            "requests": self.requests,
            "good": self.good,
            "texts": self.texts,
            "tokens": (self.tokens > 0).then_some(self.tokens),
            "requests_s": self.good as f64 / self.seconds,
            "texts_s": self.texts as f64 / self.seconds,
            "tokens_s": (self.tokens > 0).then_some(self.tokens as f64 / self.seconds),
            "dimensions": self.dimensions,
            "latency_ms": times(&self.latency),
            "kinds": kinds,
            "statuses": self.statuses.iter().map(|(status, n)| (status.to_string(), *n)).collect::<BTreeMap<_, _>>(),
            "transport_errors": broken,
            "answers": { "read": self.read, "wrong": self.wrong, "differing": self.differing, "lowest_cosine": self.lowest_cosine },
            "late_ms": self.rate.map(|_| times(&self.late)),
            "unsent": self.unsent,
            "cpu_seconds": self.cpu_seconds,
            "memory": memory,
            "fault": self.fault(),
        });
        format!("{value}\n")
    }
}

/// Bytes a request in MB a hundred thousand requests.
fn mb(slope: f64) -> f64 {
    slope * 1e5 / 1e6
}

fn ms(micros: u32) -> f64 {
    f64::from(micros) / 1e3
}

fn times(spread: &Spread) -> Value {
    json!({ "p50": ms(spread.p50), "p90": ms(spread.p90), "p95": ms(spread.p95), "p99": ms(spread.p99), "max": ms(spread.max) })
}

fn line(spread: &Spread) -> String {
    let Spread { p50, p90, p95, p99, max, .. } = *spread;
    let [p50, p90, p95, p99, max] = [p50, p90, p95, p99, max].map(ms);
    format!("p50 {p50:.2}  p90 {p90:.2}  p95 {p95:.2}  p99 {p99:.2}  max {max:.2}")
}

fn counts<K: fmt::Display>(counts: impl Iterator<Item = (K, u64)>) -> String {
    let parts: Vec<String> = counts.map(|(what, count)| format!("{what}: {count}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join("  ") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server      {} ({}", self.url, self.dialect)?;
        self.dimensions.map_or(Ok(()), |n| write!(f, ", {n} components"))?;
        match self.rate {
            None => writeln!(f, "), closed loop of {} clients", self.clients)?,
            Some(rate) => {
                writeln!(f, "), open loop at {rate} requests/s, seed {}, {} connections", self.seed, self.clients)?;
            }
        }
        match self.mix {
            None => writeln!(f, "texts       {:>12} ({} a request)", self.texts, self.texts_per_request)?,
            Some(mix) => writeln!(f, "texts       {:>12} (mix {mix}, {} a batch)", self.texts, self.texts_per_request)?,
        }
        writeln!(f, "requests    {:>12} in {:.2} s, {} answered right", self.requests, self.seconds, self.good)?;
        writeln!(f, "requests/s  {:>12.1}", self.good as f64 / self.seconds)?;
        writeln!(f, "texts/s     {:>12.1}", self.texts as f64 / self.seconds)?;
        if self.tokens > 0 {
            writeln!(f, "tokens/s    {:>12.0}", self.tokens as f64 / self.seconds)?;
        }
        writeln!(f, "latency ms  {}", line(&self.latency))?;
        if self.kinds.len() > 1 {
            for kind in &self.kinds {
                let (name, latency) = (kind.kind.name(), line(&kind.latency));
                writeln!(f, "  {name:<10}{:>8} sent, {} right  {latency}", kind.requests, kind.good)?;
            }
        }
        if self.rate.is_some() {
            writeln!(f, "sent late   {}", line(&self.late))?;
        }
        if self.unsent > 0 {
            writeln!(
                f,
                "unsent      {:>12} were due and could not be sent: the server does not keep up with the rate",
                self.unsent
            )?;
        }
        writeln!(f, "statuses    {}", counts(self.statuses.iter().map(|(status, n)| (*status, *n))))?;
        writeln!(f, "transport   {}", counts(self.broken.iter().map(|(how, n)| (how.name(), *n))))?;
        write!(
            f,
            "answers     {} read in full, {} wrong, {} rows differ in bits",
            self.read, self.wrong, self.differing
        )?;
        if self.differing > 0 {
            write!(f, ", lowest cosine {:.8}", self.lowest_cosine)?;
        }
        self.wrongs.iter().try_for_each(|wrong| write!(f, "\n  wrong: {wrong}"))?;
        for (status, (count, text)) in &self.unexpected {
            write!(f, "\n  status {status}, {count} times: {text}")?;
        }
        if let Some(seconds) = self.cpu_seconds {
            write!(
                f,
                "\nthis bench  {seconds:.2} s of processor time, {:.0} % of a core",
                100.0 * seconds / self.seconds
            )?;
        }
        self.memory.as_ref().map_or(Ok(()), |memory| write_memory(f, memory))
    }
}

fn write_memory(f: &mut fmt::Formatter<'_>, memory: &Memory) -> fmt::Result {
    /// So many samples are shown.
    const SHOWN: usize = 6;
    let rss: Vec<String> = memory.evenly(SHOWN).iter().map(|s| format!("{:.1}", s.rss_bytes as f64 / 1e6)).collect();
    write!(f, "\nmemory MB   {}", rss.join("  "))?;
    match memory.slope() {
        Some(slope) => write!(f, ", {:+.3} in 100,000 requests ({} samples)", mb(slope), memory.samples.len())?,
        None => f.write_str(", too short for a slope")?,
    }
    if memory.gone { write!(f, "; process {} is gone", memory.pid) } else { Ok(()) }
}
