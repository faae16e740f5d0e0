//! What a server is told: flags, variables and one file, all from the one definition below.

use clap::Args;
use embral_types::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::{net::IpAddr, path::PathBuf, time::Duration};

/// The settings of a server, each as a flag, a variable and a field of the file: a flag counts before its variable, the variable
/// before the file, the file before what stands in square brackets.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// A model to serve, as NAME or ALIAS=NAME, NAME being a folder, a name of `embral models list` or an org/name of the hub; may be given
    /// several times, the first is the one for requests that name none [default: the model inside embral]
    #[arg(short, long = "model", value_name = "MODEL", env = "EMBRAL_MODELS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelEntry>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", env = "EMBRAL_HOST", value_parser = address)]
    #[serde(deserialize_with = "host")]
    pub host: Option<IpAddr>,
    /// The port to listen on; 0 takes any that is free [default: 8080]
    #[arg(short, long, value_name = "PORT", env = "EMBRAL_PORT")]
    pub port: Option<u16>,
    /// The port for TEI's gRPC, in builds that have it; 0 takes any that is free [default: none]
    #[arg(long, value_name = "PORT", env = "EMBRAL_GRPC_PORT")]
    pub grpc_port: Option<u16>,
    /// Listen on this Unix socket as well
    #[arg(long, value_name = "PATH", env = "EMBRAL_UDS")]
    pub uds: Option<PathBuf>,
    /// The certificate chain for TLS, in PEM
    #[arg(long, value_name = "FILE", env = "EMBRAL_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key for TLS, in PEM
    #[arg(long, value_name = "FILE", env = "EMBRAL_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Keys that are let in, one a line: NAME KEY [weight=W] [requests-per-minute=N] [tokens-per-minute=N] [default: everybody is]
    #[arg(long, value_name = "FILE", env = "EMBRAL_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,
    /// One key that is let in, besides those of the file
    #[arg(long, value_name = "KEY", env = "EMBRAL_SERVER_API_KEY", hide_env_values = true)]
    #[serde(skip_serializing)]
    pub api_key: Option<String>,
    /// Origins whose pages may call the server, or * for all; may be given several times [default: none but its own]
    #[arg(long, value_name = "ORIGIN", env = "EMBRAL_CORS_ORIGINS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cors_origins: Vec<String>,
    /// Requests a minute that each key may make, where the file does not say [default: as many as come]
    #[arg(long, value_name = "N", env = "EMBRAL_REQUESTS_PER_MINUTE")]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute that each key may send, where the file does not say [default: as many as come]
    #[arg(long, value_name = "N", env = "EMBRAL_TOKENS_PER_MINUTE")]
    pub tokens_per_minute: Option<u32>,

    /// What batches are tuned for: throughput, latency or memory [default: throughput]
    #[arg(long, value_name = "PRESET", env = "EMBRAL_PRESET")]
    pub preset: Option<String>,
    /// Threads that compute [default: one for each core]
    #[arg(long, value_name = "N", env = "EMBRAL_THREADS")]
    pub threads: Option<usize>,
    /// The numbers in which models are computed, where their entry does not say: f32, bf16 or int8 [default: f32]
    #[arg(long, value_name = "KIND", env = "EMBRAL_PRECISION")]
    pub precision: Option<String>,
    /// What happens to a text that is too long where the request does not say: right (its end is cut), left or error [default: right]
    #[arg(long, value_name = "SIDE", env = "EMBRAL_TRUNCATE")]
    pub truncate: Option<String>,
    /// Requests that may wait for each model [default: 4096]
    #[arg(long, value_name = "N", env = "EMBRAL_QUEUE_REQUESTS")]
    pub queue_requests: Option<usize>,
    /// Tokens that may wait for each model [default: 2097152]
    #[arg(long, value_name = "N", env = "EMBRAL_QUEUE_TOKENS")]
    pub queue_tokens: Option<u64>,
    /// The longest that a request may take where it does not say, in seconds [default: 120]
    #[arg(long, value_name = "SECONDS", env = "EMBRAL_REQUEST_TIMEOUT")]
    pub request_timeout: Option<u64>,

    /// Open models when they are first asked for, not at the start
    #[arg(long, env = "EMBRAL_LAZY", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub lazy: Option<bool>,
    /// Serve every model of the store by its name as well (`embral models list`)
    #[arg(long, env = "EMBRAL_SERVE_STORED", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub serve_stored: Option<bool>,
    /// Let clients fetch models from the hub into the store and delete them (/api/pull, /api/delete)
    #[arg(long, env = "EMBRAL_ALLOW_PULL", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_pull: Option<bool>,
    /// Seconds that an opened model is kept after its last request; -1 for ever [default: -1 for named models, 300 for those of the
    /// store]
    #[arg(long, value_name = "SECONDS", env = "EMBRAL_KEEP_ALIVE", allow_hyphen_values = true)]
    pub keep_alive: Option<i64>,
    /// Bytes that the weights of opened models may take, such as 8GiB: those used longest ago are closed first [default: as many as there
    /// are]
    #[arg(long, value_name = "SIZE", env = "EMBRAL_MODEL_MEMORY")]
    pub model_memory: Option<String>,
    /// Keep vectors in memory up to this size, such as 256MiB, and answer texts seen before from there [default: none are kept]
    #[arg(long, value_name = "SIZE", env = "EMBRAL_VECTOR_CACHE_MEMORY")]
    pub vector_cache_memory: Option<String>,
    /// Never touch the network, as HF_HUB_OFFLINE=1 does
    #[arg(long, env = "EMBRAL_OFFLINE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub offline: Option<bool>,

    /// Put another server behind this one's queue: an address as docs/remote.md has them, or a model of this machine; may be given several
    /// times
    #[arg(long = "worker", value_name = "URL", env = "EMBRAL_WORKERS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<String>,
    /// Which worker is next: round-robin, least-loaded, fastest or random [default: least-loaded]
    #[arg(long, value_name = "STRATEGY", env = "EMBRAL_WORKER_STRATEGY")]
    pub worker_strategy: Option<String>,

    /// The largest body of a request, such as 32MiB [default: 32MiB]
    #[arg(long, value_name = "SIZE", env = "EMBRAL_BODY_LIMIT")]
    pub body_limit: Option<String>,
    /// The most texts of a request [default: 8192]
    #[arg(long, value_name = "N", env = "EMBRAL_MAX_INPUTS")]
    pub max_inputs: Option<usize>,
    /// The most connections at once [default: 4096]
    #[arg(long, value_name = "N", env = "EMBRAL_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,
    /// Seconds in which a client has to send the head of a request, and between two parts of a body; also how long it may leave an
    /// answer unread [default: 30]
    #[arg(long, value_name = "SECONDS", env = "EMBRAL_CLIENT_TIMEOUT")]
    pub client_timeout: Option<u64>,
    /// Seconds that requests under way are given after SIGTERM [default: 30]
    #[arg(long, value_name = "SECONDS", env = "EMBRAL_SHUTDOWN_TIMEOUT")]
    pub shutdown_timeout: Option<u64>,

    /// How much is logged: error, warn, info, debug or trace, also by module as in RUST_LOG [default: info]
    #[arg(long, value_name = "LEVEL", env = "EMBRAL_LOG")]
    pub log: Option<String>,
    /// How lines of the log are written: text or json [default: text]
    #[arg(long, value_name = "FORM", env = "EMBRAL_LOG_FORMAT")]
    pub log_format: Option<String>,
    /// Send traces to this OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Leave the page at / out
    #[arg(long, env = "EMBRAL_NO_PAGE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub no_page: Option<bool>,
}

/// A model to serve: in the file a table `[[models]]`, on the command line NAME or ALIAS=NAME.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ModelEntry {
    /// A folder, a name of the catalogue, an imported model or an `org/name` of the hub; empty for the model inside embral.
    pub name: String,
    /// The names that clients may call it by, besides its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The numbers in which it is computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Components of its vectors (Matryoshka).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dims: Option<usize>,
    /// How token vectors become one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<String>,
    /// The longest text in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Its share of the machine while others are busy as well; 1 where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

impl std::str::FromStr for ModelEntry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // An address has an equals sign of its own, behind its slashes.
        let (alias, name) = match text.split_once('=') {
            Some((alias, name)) if !alias.contains("://") => (Some(alias), name),
            _ => (None, text),
        };
        if name.is_empty() || alias.is_some_and(str::is_empty) {
            let message = format!("expected a model as NAME or ALIAS=NAME, found {text:?}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(Self { name: name.to_owned(), aliases: alias.map(str::to_owned).into_iter().collect(), ..Self::default() })
    }
}

/// An address in digits, or `localhost`.
fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        digits => digits.parse().map_err(|_| "expected an address such as 127.0.0.1, ::1 or 0.0.0.0".to_owned()),
    }
}

fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| address(&text).map_err(serde::de::Error::custom)).transpose()
}

impl Settings {
    /// The settings of a file.
    ///
    /// # Errors
    /// Where it cannot be read, or says what no setting is called.
    pub fn read(path: &std::path::Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("cannot read the settings", path, e))?;
        Self::parse(&text).map_err(|e| e.in_file(path))
    }

    /// The settings of the text of a file.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| {
            let message = format!("expected the settings of a server in TOML: {}", e.to_string().trim_end());
            Error::new(ErrorKind::InvalidInput, message).hint("embral serve --print-config shows them all")
        })
    }

    /// These settings, and of `other` those that these leave open.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let list = |mine: Vec<String>, theirs: Vec<String>| if mine.is_empty() { theirs } else { mine };
        Self {
            models: if self.models.is_empty() { other.models } else { self.models },
            host: self.host.or(other.host),
            port: self.port.or(other.port),
            grpc_port: self.grpc_port.or(other.grpc_port),
            uds: self.uds.or(other.uds),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            api_key_file: self.api_key_file.or(other.api_key_file),
            api_key: self.api_key.or(other.api_key),
            cors_origins: list(self.cors_origins, other.cors_origins),
            requests_per_minute: self.requests_per_minute.or(other.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.or(other.tokens_per_minute),
            preset: self.preset.or(other.preset),
            threads: self.threads.or(other.threads),
            precision: self.precision.or(other.precision),
            truncate: self.truncate.or(other.truncate),
            queue_requests: self.queue_requests.or(other.queue_requests),
            queue_tokens: self.queue_tokens.or(other.queue_tokens),
            request_timeout: self.request_timeout.or(other.request_timeout),
            lazy: self.lazy.or(other.lazy),
            serve_stored: self.serve_stored.or(other.serve_stored),
            allow_pull: self.allow_pull.or(other.allow_pull),
            keep_alive: self.keep_alive.or(other.keep_alive),
            model_memory: self.model_memory.or(other.model_memory),
            vector_cache_memory: self.vector_cache_memory.or(other.vector_cache_memory),
            offline: self.offline.or(other.offline),
            workers: list(self.workers, other.workers),
            worker_strategy: self.worker_strategy.or(other.worker_strategy),
            body_limit: self.body_limit.or(other.body_limit),
            max_inputs: self.max_inputs.or(other.max_inputs),
            max_connections: self.max_connections.or(other.max_connections),
            client_timeout: self.client_timeout.or(other.client_timeout),
            shutdown_timeout: self.shutdown_timeout.or(other.shutdown_timeout),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
            otlp_endpoint: self.otlp_endpoint.or(other.otlp_endpoint),
            no_page: self.no_page.or(other.no_page),
        }
    }

    /// These settings, and what holds where they are silent. With workers, no model is opened here unless one is named.
    #[must_use]
    pub fn completed(self) -> Self {
        let front = self.models.is_empty() && !self.workers.is_empty();
        let mut all = self.or(Self::standard());
        if front {
            all.models.clear();
        }
        all
    }

    /// Fails where a value is none that can be used.
    ///
    /// # Errors
    /// The error names the setting, what was expected and what was found.
    pub fn check(&self) -> Result<()> {
        Resolved::of(self.clone()).map(|_| ())
    }

    /// What holds where nothing is said.
    pub fn standard() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            models: vec![ModelEntry::default()],
            host: Some(IpAddr::from([127, 0, 0, 1])),
            port: Some(8080),
            preset: text("throughput"),
            precision: text("f32"),
            truncate: text("right"),
            queue_requests: Some(4096),
            queue_tokens: Some(2 << 20),
            request_timeout: Some(120),
            lazy: Some(false),
            serve_stored: Some(false),
            allow_pull: Some(false),
            offline: Some(false),
            worker_strategy: text("least-loaded"),
            body_limit: text("32MiB"),
            max_inputs: Some(8192),
            max_connections: Some(4096),
            client_timeout: Some(30),
            shutdown_timeout: Some(30),
            log: text("info"),
            log_format: text("text"),
            no_page: Some(false),
            ..Self::default()
        }
    }

    /// The settings as a file that sets the same; keys are left out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|e| format!("# the settings cannot be written: {e}\n"))
    }
}

/// Settings as they are used: every number read, every name known.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) queue_requests: usize,
    pub(crate) queue_tokens: u64,
    pub(crate) preset: embral::queue::Preset,
    pub(crate) precision: embral::Precision,
    pub(crate) truncation: embral::Truncation,
    pub(crate) request_timeout: Duration,
    pub(crate) model_memory: Option<u64>,
    pub(crate) vector_cache_memory: Option<u64>,
    pub(crate) body_limit: usize,
    pub(crate) max_inputs: usize,
    pub(crate) max_connections: usize,
    pub(crate) client_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) lazy: bool,
    pub(crate) serve_stored: bool,
    pub(crate) allow_pull: bool,
    pub(crate) offline: bool,
    pub(crate) page: bool,
    pub(crate) settings: Settings,
}

impl Resolved {
    pub(crate) fn of(settings: Settings) -> Result<Self> {
        let settings = settings.completed();
        let invalid = |what: &str, expected: &str, found: &str| {
            Error::new(ErrorKind::InvalidInput, format!("{what}: expected {expected}, found {found:?}"))
        };
        let size = |what: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                crate::number::bytes(text).map(Some).ok_or_else(|| invalid(what, "a size such as 64MiB or 8GiB", text))
            }
        };
        let count = |what: &str, value: Option<u64>| match value {
            Some(0) | None => Err(invalid(what, "1 or more", "0")),
            Some(value) => Ok(value),
        };
        let preset = match settings.preset.as_deref().unwrap_or_default() {
            "throughput" => embral::queue::Preset::Throughput,
            "latency" => embral::queue::Preset::Latency,
            "memory" => embral::queue::Preset::Memory,
            other => return Err(invalid("preset", "throughput, latency or memory", other)),
        };
        let seconds = |value: Option<u64>| Duration::from_secs(value.unwrap_or_default());
        for (what, none) in [
            ("threads", settings.threads == Some(0)),
            ("requests-per-minute", settings.requests_per_minute == Some(0)),
            ("tokens-per-minute", settings.tokens_per_minute == Some(0)),
        ] {
            if none {
                return Err(invalid(what, "1 or more", "0"));
            }
        }
        let body_limit = size("body-limit", &settings.body_limit)?.unwrap_or(32 << 20);
        Ok(Self {
            queue_requests: count("queue-requests", settings.queue_requests.map(|n| n as u64))? as usize,
            queue_tokens: count("queue-tokens", settings.queue_tokens)?,
            preset,
            precision: settings.precision.as_deref().unwrap_or("f32").parse()?,
            truncation: settings.truncate.as_deref().unwrap_or("right").parse()?,
            request_timeout: Duration::from_secs(count("request-timeout", settings.request_timeout)?),
            model_memory: size("model-memory", &settings.model_memory)?,
            vector_cache_memory: size("vector-cache-memory", &settings.vector_cache_memory)?,
            body_limit: usize::try_from(count("body-limit", Some(body_limit))?).unwrap_or(usize::MAX),
            max_inputs: count("max-inputs", settings.max_inputs.map(|n| n as u64))? as usize,
            max_connections: count("max-connections", settings.max_connections.map(|n| n as u64))? as usize,
            client_timeout: Duration::from_secs(count("client-timeout", settings.client_timeout)?),
            shutdown_timeout: seconds(settings.shutdown_timeout),
            lazy: settings.lazy == Some(true),
            serve_stored: settings.serve_stored == Some(true),
            allow_pull: settings.allow_pull == Some(true),
            offline: settings.offline == Some(true),
            page: settings.no_page != Some(true),
            settings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_counts_before_the_file_and_the_file_before_the_standard() {
        let flags = Settings { port: Some(1), ..Settings::default() };
        let file =
            Settings::parse("port = 2\nqueue-requests = 3\n[[models]]\nname = \"a\"\naliases = [\"b\"]\n").unwrap();
        let all = flags.or(file).or(Settings::standard());
        assert_eq!((all.port, all.queue_requests, all.queue_tokens), (Some(1), Some(3), Some(2 << 20)));
        assert_eq!(all.models[0].aliases, ["b"]);
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let all = Settings { vector_cache_memory: Some("1GiB".to_owned()), ..Settings::standard() };
        assert_eq!(Settings::parse(&all.to_toml()).unwrap(), all);
        assert_eq!(Settings::parse("host = \"localhost\"").unwrap().host, Settings::standard().host);
        assert!(Settings::parse("host = \"here\"").unwrap_err().to_string().contains("127.0.0.1"));
        let secret = Settings { api_key: Some("hidden".to_owned()), ..Settings::standard() };
        assert!(!secret.to_toml().contains("hidden"));
    }

    #[test]
    fn what_no_setting_is_called_is_refused_with_its_name() {
        let error = Settings::parse("prot = 1").unwrap_err().to_string();
        assert!(error.contains("prot") && error.contains("--print-config"), "{error}");
        for (bad, named) in [
            (Settings { preset: Some("fast".to_owned()), ..Settings::default() }, "preset"),
            (Settings { body_limit: Some("much".to_owned()), ..Settings::default() }, "body-limit"),
            (Settings { queue_requests: Some(0), ..Settings::default() }, "queue-requests"),
            (Settings { requests_per_minute: Some(0), ..Settings::default() }, "requests-per-minute"),
            (Settings { tokens_per_minute: Some(0), ..Settings::default() }, "tokens-per-minute"),
            (Settings { precision: Some("f8".to_owned()), ..Settings::default() }, "f8"),
        ] {
            let error = Resolved::of(bad).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        Resolved::of(Settings::default()).unwrap();
    }

    #[test]
    fn with_workers_no_model_is_opened_that_is_not_named() {
        let workers = Settings { workers: vec!["openai+http://localhost:1/v1".to_owned()], ..Settings::default() };
        assert!(workers.clone().completed().models.is_empty());
        assert!(workers.clone().completed().completed().models.is_empty());
        let named = Settings { models: vec![ModelEntry::default()], ..workers };
        assert_eq!(named.completed().models.len(), 1);
    }

    #[test]
    fn a_model_is_a_name_with_or_without_an_alias() {
        let entry: ModelEntry = "mini=sentence-transformers/all-MiniLM-L6-v2".parse().unwrap();
        assert_eq!(
            (entry.name.as_str(), &entry.aliases[..]),
            ("sentence-transformers/all-MiniLM-L6-v2", &["mini".to_owned()][..])
        );
        let entry: ModelEntry = "openai+http://localhost:1/v1?model=x".parse().unwrap();
        assert!(entry.aliases.is_empty());
        for bad in ["", "=x", "x="] {
            assert!(bad.parse::<ModelEntry>().is_err(), "{bad}");
        }
    }
}
