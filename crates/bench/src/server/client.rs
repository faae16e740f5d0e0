//! One connection to the server, kept open from request to request.

use super::plan::Item;
use embral::{Error, ErrorKind, Result};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Uri,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};
use tokio::net::TcpStream;

/// An answer that is longer is cut off.
const LONGEST: usize = 64 << 20;
/// So much of an answer that is no success is kept, for its message.
const MESSAGE: usize = 4096;

/// How a request ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// No connection was made.
    Connect,
    /// The connection ended before the answer began.
    Closed,
    /// The answer broke off, or did not end.
    Cut,
    /// The time for it was over.
    Timeout,
}

impl Broken {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Cut => "cut",
            Self::Timeout => "timeout",
        }
    }
}

/// What came back, but for the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Bytes of the body.
    pub(super) length: usize,
    /// The header `x-compute-tokens`.
    pub(super) tokens: Option<u64>,
}

/// Where requests go, and what all of them carry.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) addresses: Vec<SocketAddr>,
    headers: HeaderMap,
    base: String,
    paths: BTreeMap<&'static str, Uri>,
    timeout: Duration,
}

/// What a target is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim<'a> {
    pub(super) url: &'a str,
    pub(super) allow_remote: bool,
    pub(super) api_key: Option<&'a str>,
    pub(super) priority: Option<&'a str>,
    pub(super) timeout: Duration,
}

impl Target {
    /// Finds the address out, and refuses one that is not of this machine unless that is allowed.
    pub(super) fn new(aim: &Aim<'_>) -> Result<Self> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
        let uri: Uri = aim.url.parse().map_err(|e| invalid(format!("{:?} is no address: {e}", aim.url)))?;
        if uri.scheme_str() != Some("http") {
            let found = uri.scheme_str().unwrap_or("none");
            return Err(invalid(format!("expected an address that begins with http://, found the scheme {found}"))
                .hint("measure a server behind TLS at its own port, without the proxy"));
        }
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(80);
        let addresses: Vec<SocketAddr> = (host.trim_matches(['[', ']']), port)
            .to_socket_addrs()
            .map_err(|e| Error::new(ErrorKind::Network, format!("cannot find the host {host:?}")).because(e))?
            .collect();
        if !aim.allow_remote && !addresses.iter().all(|address| address.ip().is_loopback()) {
            return Err(invalid(format!(
                "{host} is not this machine: as much load as a server takes keeps its other users out, and over a network the \
                 figures are those of the network"
            ))
            .hint("run it where the server runs, or say --allow-remote where the server is yours"));
        }
        let value = |what: &str, text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| invalid(format!("the {what} has characters that no header may have")))
        };
        let mut headers = HeaderMap::new();
        let authority = uri.authority().map_or(host, |a| a.as_str());
        headers.insert(HOST, value("host", authority.rsplit('@').next().unwrap_or(host))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = aim.api_key {
            let mut key = value("API key", &format!("Bearer {key}"))?;
            key.set_sensitive(true);
            headers.insert(AUTHORIZATION, key);
        }
        if let Some(priority) = aim.priority {
            headers.insert(HeaderName::from_static("x-embral-priority"), value("priority", priority)?);
        }
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { addresses, headers, base, paths: BTreeMap::new(), timeout: aim.timeout })
    }

    /// Makes the addresses of the requests. `http://host/v1` and `http://host` are one server, as in the settings of other clients.
    pub(super) fn prepare(&mut self, items: &[Item]) -> Result<()> {
        for path in items.iter().map(|item| item.path) {
            let version =
                ["/v1", "/v2"].into_iter().find(|v| self.base.ends_with(v) && path.starts_with(&format!("{v}/")));
            let base = version.map_or(self.base.as_str(), |v| self.base.trim_end_matches(v));
            let uri = format!("{base}{path}")
                .parse()
                .map_err(|e| Error::new(ErrorKind::InvalidInput, format!("{base:?} is no beginning of a path: {e}")))?;
            self.paths.insert(path, uri);
        }
        Ok(())
    }

    /// The address of a request.
    fn uri(&self, item: &Item) -> Uri {
        self.paths.get(item.path).cloned().unwrap_or_else(|| Uri::from_static(item.path))
    }
}

/// A connection, opened when it is needed.
#[derive(Debug, Default)]
pub(super) struct Client {
    sender: Option<SendRequest<Full<Bytes>>>,
    /// The body of the last answer: all of it where that was asked for or it was no success (its beginning), else nothing.
    pub(super) body: Vec<u8>,
}

impl Client {
    /// Sends a request and takes its answer in; `whole` keeps the body. A connection that the server closed between two requests
    /// is opened again.
    pub(super) async fn ask(&mut self, target: &Target, item: &Item, whole: bool) -> Result<Reply, Broken> {
        let outcome = tokio::time::timeout(target.timeout, self.exchange(target, item, whole)).await;
        let outcome = outcome.unwrap_or(Err(Broken::Timeout));
        if outcome.is_err() {
            self.sender = None;
        }
        outcome
    }

    async fn exchange(&mut self, target: &Target, item: &Item, whole: bool) -> Result<Reply, Broken> {
        self.body.clear();
        let ready = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            self.sender = Some(connect(&target.addresses).await?);
        }
        let sender = self.sender.as_mut().expect("one was made");
        let mut request = Request::new(Full::new(item.body.clone()));
        *request.method_mut() = item.method.clone();
        *request.uri_mut() = target.uri(item);
        *request.headers_mut() = target.headers.clone();
        let mut answer = sender.send_request(request).await.map_err(|_| Broken::Closed)?;
        let status = answer.status().as_u16();
        let tokens = answer.headers().get("x-compute-tokens").and_then(|n| n.to_str().ok()?.parse().ok());
        let keep = match status {
            200 if whole => LONGEST,
            200 => 0,
            _ => MESSAGE,
        };
        let mut length = 0;
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|_| Broken::Cut)?;
            let Some(data) = frame.data_ref() else { continue };
            length += data.len();
            if length > LONGEST {
                return Err(Broken::Cut);
            }
            let room = keep.saturating_sub(self.body.len()).min(data.len());
            self.body.extend_from_slice(&data[..room]);
        }
        Ok(Reply { status, length, tokens })
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<SendRequest<Full<Bytes>>, Broken> {
    let stream = TcpStream::connect(addresses).await.map_err(|_| Broken::Connect)?;
    stream.set_nodelay(true).map_err(|_| Broken::Connect)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Broken::Connect)?;
    tokio::spawn(async {
        // How the connection ended is seen by the request that was on it.
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aim(url: &str) -> Aim<'_> {
        Aim { url, allow_remote: false, api_key: None, priority: None, timeout: Duration::from_secs(1) }
    }

    #[test]
    fn only_this_machine_is_loaded_unless_that_is_allowed() {
        for url in ["http://127.0.0.1:8080", "http://127.1.2.3", "http://[::1]:9/", "http://user:word@127.0.0.1:9/base"]
        {
            assert!(Target::new(&aim(url)).is_ok(), "{url}");
        }
        for url in ["http://192.0.2.1:8080", "http://[2001:db8::1]", "http://0.0.0.0:1"] {
            let error = Target::new(&aim(url)).unwrap_err().to_string();
            assert!(error.contains("is not this machine") && error.contains("--allow-remote"), "{error}");
            assert!(Target::new(&Aim { allow_remote: true, ..aim(url) }).is_ok(), "{url}");
        }
        for (url, what) in [
            ("https://127.0.0.1", "found the scheme https"),
            ("127.0.0.1:80", "found the scheme none"),
            ("/path", "found the scheme none"),
            ("http://", "no address"),
        ] {
            let error = Target::new(&aim(url)).unwrap_err().to_string();
            assert!(error.contains(what), "{url}: {error}");
        }
    }

    #[test]
    fn keys_do_not_show() {
        let secret = Aim { api_key: Some("sk-secret"), ..aim("http://127.0.0.1") };
        assert!(!format!("{:?}", Target::new(&secret).unwrap()).contains("sk-secret"));
        let broken = Target::new(&Aim { api_key: Some("sk-secret\n"), ..aim("http://127.0.0.1") }).unwrap_err();
        assert!(!broken.to_string().contains("sk-secret"), "{broken}");
    }
}
