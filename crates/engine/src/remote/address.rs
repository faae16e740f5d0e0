//! `KIND+http://HOST/PATH?model=NAME&…`: which server, how it is spoken to, and how often.

use super::{Kind, Options};
use embral_types::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use std::time::Duration;
use ureq::http::Uri;

/// An address, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    /// Where it is stated or plain from host and path; otherwise the server is asked.
    pub(super) kind: Option<Kind>,
    /// Scheme, host and path, without a slash at the end, without what the kinds put behind it.
    pub(super) base: String,
    pub(super) host: String,
    /// The server is this machine.
    pub(super) loopback: bool,
    pub(super) model: Option<String>,
    pub(super) options: Options,
}

/// What an address may say behind its question mark.
const PARAMETERS: &str =
    "model, batch, batch_bytes, concurrency, rpm, tpm, retries, connect, timeout, deadline, key_env, prompts";

/// Ends of a path that say the kind, and what of each is no part of the base.
const ENDS: [(&str, &str, Kind); 8] = [
    ("/v1/embeddings", "/embeddings", Kind::OpenAi),
    ("/v1", "", Kind::OpenAi),
    ("/v2/embed", "/embed", Kind::Cohere),
    ("/v2", "", Kind::Cohere),
    ("/api/embed", "/api/embed", Kind::Ollama),
    ("/api", "/api", Kind::Ollama),
    ("/embed", "/embed", Kind::Tei),
    ("/embeddings", "/embeddings", Kind::OpenAi),
];

impl Address {
    /// Takes `text` apart; what it says of the options stands above `options`.
    pub(super) fn parse(text: &str, options: &Options) -> Result<Self> {
        let (kind, url) = match text.split_once('+') {
            Some((kind, url)) if url.starts_with("http://") || url.starts_with("https://") => {
                let kind = Kind::ALL.into_iter().find(|k| k.name() == kind).ok_or_else(|| {
                    let known = Kind::ALL.map(Kind::name).join(", ");
                    invalid(text, &format!("unknown kind of server {kind:?}: expected one of {known}"))
                })?;
                (Some(kind), url)
            }
            _ => (None, text),
        };
        let uri: Uri = url.parse().map_err(|e| invalid(text, &format!("no address: {e}")))?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(invalid(text, "expected http://HOST or https://HOST"));
        };
        if authority.as_str().contains('@') {
            // Without the address, which holds the password.
            let message = "an address of a model holds no user and password: it is shown in messages";
            return Err(Error::new(ErrorKind::InvalidInput, message).hint("set EMBRAL_API_KEY"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let mut path = uri.path().trim_end_matches('/').to_owned();
        let of_path = ENDS.into_iter().find(|(end, _, of)| path.ends_with(end) && kind.is_none_or(|kind| kind == *of));
        if let Some((_, cut, _)) = of_path {
            path.truncate(path.len() - cut.len());
        }
        let of_host = Kind::ALL.into_iter().find(|kind| kind.hosts().contains(&host.as_str()));
        let kind = kind.or(of_path.map(|(_, _, kind)| kind)).or(of_host);
        let loopback =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let base = format!("{scheme}://{authority}{path}");
        let mut address = Self { kind, base, host, loopback, model: None, options: options.clone() };
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| invalid(text, &format!("the value of {name} is no UTF-8")))?;
            address.set(name, &value).map_err(|what| invalid(text, &what))?;
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let options = &mut self.options;
        let number = || match value.parse::<u64>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(format!("{name} is a whole number from 1 on, found {value:?}")),
        };
        let seconds = || {
            let time = value.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()).filter(|t| !t.is_zero());
            time.ok_or_else(|| format!("{name} is a number of seconds above 0, found {value:?}"))
        };
        let size = || number().map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        match name {
            "model" if !value.is_empty() => self.model = Some(value.to_owned()),
            "batch" => options.batch_texts = Some(size()?),
            "batch_bytes" => options.batch_bytes = size()?,
            "concurrency" => options.concurrency = size()?,
            "rpm" => options.requests_per_minute = Some(number()?),
            "tpm" => options.tokens_per_minute = Some(number()?),
            "retries" => {
                let count = value.parse();
                options.retries = count.map_err(|_| format!("retries is a whole number, found {value:?}"))?;
            }
            "connect" => options.connect = seconds()?,
            "timeout" => options.timeout = seconds()?,
            "deadline" => options.deadline = seconds()?,
            "key_env" if !value.is_empty() => options.key_variable = Some(value.to_owned()),
            "prompts" => options.prompts = value.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect(),
            _ => return Err(format!("unknown or empty parameter {name:?}: expected {PARAMETERS}")),
        }
        Ok(())
    }
}

fn invalid(address: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{address}: {what}"))
        .hint("such as openai+http://localhost:8000/v1?model=NAME; docs/remote.md tells more")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Address {
        Address::parse(text, &Options::default()).unwrap()
    }

    #[test]
    fn kinds_are_stated_or_plain_from_path_and_host() {
        for (text, kind, base) in [
            ("http://localhost:8080", None, "http://localhost:8080"),
            ("http://localhost:8080/some/proxy/", None, "http://localhost:8080/some/proxy"),
            ("tei+http://h:1/v1", Some(Kind::Tei), "http://h:1/v1"),
            ("openai+http://h/a/embeddings", Some(Kind::OpenAi), "http://h/a"),
            ("openai+https://h/v1/", Some(Kind::OpenAi), "https://h/v1"),
            ("http://h/v1/embeddings", Some(Kind::OpenAi), "http://h/v1"),
            ("http://h/v1", Some(Kind::OpenAi), "http://h/v1"),
            ("https://api.openai.com", Some(Kind::OpenAi), "https://api.openai.com"),
            ("http://h/v2/embed", Some(Kind::Cohere), "http://h/v2"),
            ("http://h/v2", Some(Kind::Cohere), "http://h/v2"),
            ("https://api.cohere.com", Some(Kind::Cohere), "https://api.cohere.com"),
            ("http://h/api/embed", Some(Kind::Ollama), "http://h"),
            ("http://h/api", Some(Kind::Ollama), "http://h"),
            ("http://h/embed", Some(Kind::Tei), "http://h"),
        ] {
            let found = parse(text);
            assert_eq!((found.kind, found.base.as_str()), (kind, base), "{text}");
        }
    }

    #[test]
    fn parameters_stand_above_the_options() {
        let options = Options { retries: 9, batch_bytes: 7, ..Options::default() };
        let text = "http://[::1]:9/v1?model=BAAI/bge-m3&batch=8&rpm=500&tpm=1000000&timeout=2.5&connect=1&deadline=30&concurrency=2\
                    &key_env=MY_KEY&prompts=query,passage&retries=0";
        let a = Address::parse(text, &options).unwrap();
        assert_eq!((a.model.as_deref(), a.host.as_str(), a.loopback), (Some("BAAI/bge-m3"), "::1", true));
        let expected = Options {
            batch_texts: Some(8),
            batch_bytes: 7,
            concurrency: 2,
            requests_per_minute: Some(500),
            tokens_per_minute: Some(1_000_000),
            retries: 0,
            connect: Duration::from_secs(1),
            timeout: Duration::from_millis(2500),
            deadline: Duration::from_secs(30),
            key_variable: Some("MY_KEY".to_owned()),
            prompts: vec!["query".to_owned(), "passage".to_owned()],
        };
        assert_eq!(a.options, expected);
        assert_eq!(parse("http://h?model=a%20b%2Bc").model.as_deref(), Some("a b+c"));
        assert!(!parse("http://128.0.0.1").loopback && parse("http://127.9.9.9").loopback);
    }

    #[test]
    fn what_is_no_address_says_what_is_expected() {
        for (text, message) in [
            ("http://", "no address"),
            ("bert+http://h", "expected one of openai, tei, ollama, cohere"),
            ("http://h?modle=x", "unknown or empty parameter \"modle\""),
            ("http://h?model=", "unknown or empty parameter \"model\""),
            ("http://h?rpm=0", "rpm is a whole number from 1 on"),
            ("http://h?timeout=0", "seconds above 0"),
            ("http://h?timeout=soon", "seconds above 0"),
            ("http://h?retries=-1", "retries is a whole number"),
            ("http://h?model=%ff", "no UTF-8"),
        ] {
            let error = Address::parse(text, &Options::default()).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
        let error = Address::parse("http://me:secret@h/v1", &Options::default()).unwrap_err().to_string();
        assert!(error.contains("EMBRAL_API_KEY") && !error.contains("secret"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "([a-z]{0,4}\\+)?(https?://)?.{0,40}") {
            let _ = Address::parse(&text, &Options::default());
        }
    }
}
