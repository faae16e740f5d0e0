//! One server over HTTP: one try at a time, and tries until one succeeds or the policy ends them.

use super::{
    Options,
    clock::Clock,
    limit::RateLimit,
    retry::{Fault, Policy, Verdict, retry_after},
};
use embral_types::{Error, ErrorKind};
use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};
use ureq::{Agent, Body, http::Response};

/// Characters of a server's own words that are shown.
const WORDS: usize = 300;
/// The largest answer that carries no vectors.
const SMALL: u64 = 16 << 20;
/// Tries of the questions that are put before the first text: somebody waits for them.
const QUESTIONS: u32 = 2;

/// A server, its limits and its key.
pub(super) struct Client {
    agent: Agent,
    key: Option<Secret>,
    policy: Policy,
    /// Of one try.
    timeout: Duration,
    rate: Mutex<RateLimit>,
    /// Requests that may still begin, of all calls together.
    free: Mutex<usize>,
    freed: Condvar,
    clock: Arc<dyn Clock>,
    chance: RandomState,
}

/// An API key: in no message and no debug output.
pub(super) struct Secret(pub(super) String);

/// A request.
pub(super) struct Request<'a> {
    pub(super) url: &'a str,
    /// JSON to be posted; nothing is a GET.
    pub(super) body: Option<&'a [u8]>,
    /// About how many tokens it costs.
    pub(super) tokens: u64,
    /// Bytes that the answer has at most.
    pub(super) most: u64,
    /// How long it may take with all of its tries, where that is less than the deadline.
    pub(super) within: Duration,
}

impl<'a> Request<'a> {
    pub(super) fn get(url: &'a str) -> Self {
        Self { url, body: None, tokens: 0, most: SMALL, within: Duration::MAX }
    }
}

/// An answer that was read whole.
pub(super) struct Reply {
    pub(super) body: Vec<u8>,
    /// Tokens, where a header tells.
    pub(super) tokens: Option<u64>,
}

/// Why there is no answer. It is the source of the error that is made of it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// What the server asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// In words, without the address.
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
    pub(crate) kind: ErrorKind,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// An answer that another try would only repeat.
    pub(super) fn wrong(what: String) -> Self {
        let hint = "is the address that of such a server? docs/remote.md lists the forms".to_owned();
        Self { fault: Fault::Final, retry_after: None, what, hint: Some(hint), kind: ErrorKind::Malformed }
    }

    /// The answer ended early.
    pub(super) fn cut(what: String) -> Self {
        Self { fault: Fault::Connection, hint: None, kind: ErrorKind::Network, ..Self::wrong(what) }
    }

    pub(crate) fn status(&self) -> Option<u16> {
        match self.fault {
            Fault::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The error of a whole request.
    pub(super) fn error(self, url: &str, texts: &str) -> Error {
        let error = Error::new(self.kind, format!("{url}{texts}: {}", self.what));
        let error = match &self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        };
        error.because(self)
    }
}

impl Client {
    pub(super) fn new(options: &Options, key: Option<Secret>, loopback: bool, clock: Arc<dyn Clock>) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would turn the post into a get, or carry key and texts elsewhere: the user is told where it leads.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(options.connect.min(options.timeout)))
            .max_idle_connections_per_host(options.concurrency)
            .user_agent(concat!("embral/", env!("CARGO_PKG_VERSION")));
        if loopback {
            config = config.proxy(None);
        }
        Self {
            agent: config.build().into(),
            key,
            policy: Policy { retries: options.retries, deadline: options.deadline },
            timeout: options.timeout,
            rate: RateLimit::new(options.requests_per_minute, options.tokens_per_minute).into(),
            free: options.concurrency.into(),
            freed: Condvar::new(),
            clock,
            chance: RandomState::new(),
        }
    }

    /// Tries until `read` makes something of an answer, or the policy ends it. `read` gives the tokens that it did cost, too.
    pub(super) fn ask<T>(
        &self,
        request: &Request<'_>,
        read: impl Fn(Reply) -> Result<(T, Option<u64>), Failure>,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        let policy = Policy {
            retries: if request.body.is_some() { self.policy.retries } else { self.policy.retries.min(QUESTIONS) },
            deadline: self.policy.deadline.min(request.within),
        };
        // The time in which nothing is asked because of the rate is none of the server's.
        let mut spent = Duration::ZERO;
        loop {
            // Before its place in the minute, so that it starts in it.
            let under_way = self.begin();
            let slot =
                self.rate.lock().unwrap_or_else(PoisonError::into_inner).reserve(self.clock.now(), request.tokens);
            self.clock.sleep(slot.start.saturating_sub(self.clock.now()));
            let began = self.clock.now();
            tries += 1;
            let outcome = self.attempt(request, policy.deadline.saturating_sub(spent));
            drop(under_way);
            let mut failure = match outcome.and_then(&read) {
                Ok((done, tokens)) => {
                    if let Some(tokens) = tokens {
                        self.rate.lock().unwrap_or_else(PoisonError::into_inner).settle(slot, tokens);
                    }
                    return Ok(done);
                }
                Err(failure) => failure,
            };
            spent += self.clock.now().saturating_sub(began);
            match policy.after(failure.fault, failure.retry_after, tries, spent, self.chance(tries)) {
                Verdict::Again(wait) => {
                    self.clock.sleep(wait);
                    spent += wait;
                    continue;
                }
                Verdict::Final => {}
                Verdict::Spent if tries == 1 => {}
                Verdict::Spent => failure.what.push_str(&format!("; tried {tries} times")),
                Verdict::TooLate(_) if tries == 1 && failure.retry_after.is_none() => {}
                Verdict::TooLate(wait) => failure.what.push_str(&format!(
                    "; {} in {:.1} s, and the next try in {:.1} s would be past the deadline of {:.0} s",
                    if tries == 1 { "tried once".to_owned() } else { format!("tried {tries} times") },
                    spent.as_secs_f64(),
                    wait.as_secs_f64(),
                    policy.deadline.as_secs_f64()
                )),
            }
            return Err(failure);
        }
    }

    /// Waits until fewer requests are under way than may be.
    fn begin(&self) -> UnderWay<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        UnderWay(self)
    }

    /// Drawn evenly from [0, 1): the hash of the number of the try and the time, under a key that is the process's own.
    fn chance(&self, tries: u32) -> f64 {
        let mut hasher = self.chance.build_hasher();
        hasher.write_u32(tries);
        hasher.write_u128(self.clock.now().as_nanos());
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One try, which ends at the deadline too: `left` is the time until then.
    fn attempt(&self, request: &Request<'_>, left: Duration) -> Result<Reply, Failure> {
        let timeout = Some(self.timeout.min(left));
        let key = self.key.as_ref().map(|Secret(key)| format!("Bearer {key}"));
        let answer = match request.body {
            Some(body) => {
                let post = self.agent.post(request.url).config().timeout_global(timeout).build();
                let mut post = post.header("Content-Type", "application/json");
                if let Some(key) = &key {
                    post = post.header("Authorization", key);
                }
                post.header("Accept-Encoding", "identity").send(body)
            }
            None => {
                let get = self.agent.get(request.url).config().timeout_global(timeout).build();
                let mut get = get.header("Accept-Encoding", "identity");
                if let Some(key) = &key {
                    get = get.header("Authorization", key);
                }
                get.call()
            }
        };
        let answer = answer.map_err(|e| unanswered(&e))?;
        let status = answer.status().as_u16();
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let tokens = header("x-compute-tokens").and_then(|n| n.parse().ok());
        let (wait, location) = (header("retry-after"), header("location"));
        let body = read(answer, request.most);
        if status == 200 {
            return Ok(Reply { body: body?, tokens });
        }
        let words = body.map(|body| self.words(&body)).unwrap_or_default();
        let wait = wait.and_then(|value| retry_after(&value, self.clock.date()));
        Err(refused(status, &words, location.as_deref(), wait))
    }

    /// What a server says in an error, in one line, without the key.
    fn words(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let stated = json.as_ref().and_then(|json| {
            [&json["error"]["message"], &json["error"], &json["message"], &json["detail"]]
                .into_iter()
                .find_map(serde_json::Value::as_str)
        });
        let mut line = stated.unwrap_or(&text).split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(Secret(key)) = &self.key {
            line = line.replace(key.as_str(), "***");
        }
        // OpenAI's answer to an account without money has the status of one that is too fast, and does not pass.
        if json.is_some_and(|json| json["error"]["code"] == SPENT) && !line.contains(SPENT) {
            line = format!("{SPENT}: {line}");
        }
        if line.chars().count() > WORDS {
            line = line.chars().take(WORDS).chain(['…']).collect();
        }
        line
    }
}

/// How TEI, Ollama, OpenAI and Cohere say that a text is longer than the model takes.
const TOO_LONG: [&str; 4] = ["must have less than", "exceeds the context length", "maximum context length", "too long"];

/// A request between its start and its answer.
struct UnderWay<'a>(&'a Client);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

const SPENT: &str = "insufficient_quota";

/// Reads a body of `most` bytes at most.
fn read(answer: Response<Body>, most: u64) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = answer.into_body().into_reader().take(most + 1).read_to_end(&mut body);
    match read {
        Ok(_) if body.len() as u64 > most => Err(Failure::wrong(format!(
            "the answer has more than {most} bytes, which is more than what was asked for takes"
        ))),
        Ok(_) => Ok(body),
        Err(e) if is_late(&e) => Err(late()),
        Err(e) => Err(Failure::cut(format!("the answer broke off after {} bytes: {e}", body.len()))),
    }
}

/// Whether an error of reading is that the time is up.
fn is_late(e: &io::Error) -> bool {
    let inner = e.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    e.kind() == io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)))
}

fn late() -> Failure {
    let hint = "a larger timeout in the address, such as &timeout=300, waits longer".to_owned();
    let what = "no whole answer in time".to_owned();
    Failure { fault: Fault::Timeout, hint: Some(hint), kind: ErrorKind::Network, ..Failure::wrong(what) }
}

/// No status arrived.
fn unanswered(e: &ureq::Error) -> Failure {
    match e {
        ureq::Error::Timeout(_) => late(),
        ureq::Error::Io(e) if is_late(e) => late(),
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::HostNotFound | ureq::Error::Protocol(_) => {
            let hint = Some("is the server running, and is this its address?".to_owned());
            Failure { hint, ..Failure::cut(format!("no answer: {e}")) }
        }
        e => Failure { kind: ErrorKind::Network, ..Failure::wrong(format!("no answer: {e}")) },
    }
}

/// A status other than 200: what it means and what to do about it.
fn refused(status: u16, words: &str, location: Option<&str>, retry_after: Option<Duration>) -> Failure {
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    let mut fault = Fault::Status(status);
    let (kind, what, hint) = match status {
        300..=399 => {
            let to = location.unwrap_or("another address");
            (ErrorKind::Network, format!("the server sends elsewhere (status {status}), to {to}"), "name that address")
        }
        401 | 403 => (
            ErrorKind::Network,
            format!("the server refuses the API key, or wants one (status {status}){words}"),
            "set EMBRAL_API_KEY, or name another variable with key_env=NAME in the address",
        ),
        404 => (
            ErrorKind::NotFound,
            format!("there is no such path or model (status 404){words}"),
            "check the address and its model=NAME",
        ),
        429 if words.contains(SPENT) => {
            fault = Fault::Final;
            (ErrorKind::Network, format!("the account is spent (status 429){words}"), "check its plan and billing")
        }
        429 => (
            ErrorKind::Network,
            format!("too many requests (status 429){words}"),
            "rpm=N and tpm=N in the address keep below the limits of the server",
        ),
        400 | 413 | 422 if TOO_LONG.iter().any(|said| words.contains(said)) => (
            ErrorKind::TooLong,
            format!("the server refuses a text as too long (status {status}){words}"),
            "let it be cut: --truncate right, or Config::truncation",
        ),
        400..=499 => (
            ErrorKind::InvalidInput,
            format!("the server refuses the request (status {status}){words}"),
            "see the words of the server",
        ),
        _ => (ErrorKind::Network, format!("the server failed (status {status}){words}"), "see the log of the server"),
    };
    Failure { fault, retry_after, what, hint: Some(hint.to_owned()), kind }
}
