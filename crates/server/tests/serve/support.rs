//! A server for a test, and a client that sends bytes as they are.

use embral_server::{ModelEntry, Server, Settings};
use embral_testkit::tasks::TaskGolden;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};
use tokio::runtime::Runtime;

/// A server on a port of its own; it stops when it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    server: Option<Server>,
    runtime: Runtime,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: String,
    pub(crate) body: Vec<u8>,
}

/// Settings for tests: any port, the model inside the library.
pub(crate) fn settings() -> Settings {
    Settings { port: Some(0), ..Settings::default() }
}

/// A golden model of the engine's tests.
pub(crate) fn golden(name: &str) -> ModelEntry {
    let name = format!("{}/../engine/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    ModelEntry { name, ..ModelEntry::default() }
}

/// As [`golden`], the name as the library takes it.
pub(crate) fn golden_config(name: &str) -> embral::Config {
    embral::Config::model(golden(name).name)
}

/// A golden of another task than one vector a text, by an alias. It lives as long as `golden` does.
pub(crate) fn task(golden: &TaskGolden, alias: &str) -> ModelEntry {
    let name = golden.folder().to_str().unwrap().to_owned();
    ModelEntry { name, aliases: vec![alias.to_owned()], ..ModelEntry::default() }
}

/// As [`task`], as the library takes it.
pub(crate) fn of_task(golden: &TaskGolden) -> embral::Config {
    embral::Config::model(golden.folder().to_str().unwrap())
}

pub(crate) fn start(settings: Settings) -> Running {
    try_start(settings).unwrap()
}

pub(crate) fn try_start(settings: Settings) -> embral::Result<Running> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(Server::start(settings))?;
    Ok(Running { address: server.address(), server: Some(server), runtime })
}

/// The default model.
pub(crate) fn standard() -> Running {
    start(settings())
}

impl Running {
    #[cfg(feature = "grpc")]
    pub(crate) fn grpc_address(&self) -> Option<SocketAddr> {
        self.server.as_ref()?.grpc_address()
    }

    /// Runs what a client does on the server's own threads.
    #[cfg(feature = "grpc")]
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// What comes back for these bytes until the server closes the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A server that has refused already may have closed its side.
        let _ = stream.write_all(bytes);
        Reply::read(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Stops it, and waits until it has.
    pub(crate) fn stop(mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }

    /// Tells it to stop, and gives what waits until it has.
    pub(crate) fn stopping(&mut self) -> impl FnOnce() + Send + use<> {
        let server = self.server.take().unwrap();
        let handle = self.runtime.handle().clone();
        server.stopper().stop();
        move || handle.block_on(server.stopped())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

impl Reply {
    /// Reads an answer to the end of the connection.
    pub(crate) fn read(stream: &mut impl Read) -> Self {
        let mut all = Vec::new();
        let mut part = [0; 16 << 10];
        loop {
            match stream.read(&mut part) {
                Ok(0) | Err(_) => break,
                Ok(read) => all.extend_from_slice(&part[..read]),
            }
        }
        Self::parse(&all)
    }

    fn parse(all: &[u8]) -> Self {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else { return Self { status: 0, headers: String::new(), body: all.to_vec() } };
        let headers = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, headers, body: all[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    }

    /// The body as JSON, of an answer with this status.
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A list of numbers as the bits that they are in f32.
pub(crate) fn bits_of(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|x| (x.as_f64().unwrap() as f32).to_bits()).collect()
}

pub(crate) fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}
