//! A server on the loopback that answers as a test wants, and remembers what it was asked.

use serde_json::{Value, json};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// What came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As long as its Content-Length says.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body; null where it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What goes out.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status, headers and a body.
    Whole(u16, Vec<(&'static str, String)>, String),
    /// Status 200 and the first half of a body whose length was announced.
    Half(String),
    /// As [`Reply::Half`], and then nothing until the client goes away.
    Stall(String),
    /// Nothing, until the client goes away.
    Silence,
    /// The connection is closed at once.
    Close,
    /// Status 200 and a body that does not end.
    Endless,
}

impl Reply {
    /// Status 200 with JSON.
    pub fn json(value: &Value) -> Self {
        Self::Whole(200, vec![("Content-Type", "application/json".to_owned())], value.to_string())
    }

    /// A status with a body.
    pub fn status(status: u16, body: &str) -> Self {
        Self::Whole(status, Vec::new(), body.to_owned())
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each request by `answer`, which is given its number, from 0, too. One connection a request.
    ///
    /// # Panics
    /// Where the loopback has no free port.
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, ended, answer) = (Arc::clone(&requests), Arc::clone(&stop), Arc::new(answer));
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || {
                    // A client that goes away early is its own affair.
                    let _ = serve(&stream, &seen, &*answer);
                });
            }
        });
        Self { url, requests, stop, thread: Some(thread) }
    }

    /// Every request so far, in the order they came.
    ///
    /// # Panics
    /// Where an answer panicked.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no answer panicked").clone()
    }

    /// How many requests came for a path.
    pub fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|request| request.path == path).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request, usize) -> Reply + Send + Sync),
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut request.body)?;
    let number = {
        let mut seen = seen.lock().expect("no answer panicked");
        seen.push(request.clone());
        seen.len() - 1
    };
    match answer(&request, number) {
        Reply::Whole(status, headers, body) => {
            write!(stream, "HTTP/1.1 {status} .\r\nContent-Length: {}\r\nConnection: close\r\n", body.len())?;
            for (name, value) in headers {
                write!(stream, "{name}: {value}\r\n")?;
            }
            write!(stream, "\r\n{body}")
        }
        Reply::Half(body) => half(stream, &body),
        Reply::Stall(body) => {
            half(stream, &body)?;
            stream.read(&mut [0]).map(|_| ())
        }
        Reply::Silence => stream.read(&mut [0]).map(|_| ()),
        Reply::Close => Ok(()),
        Reply::Endless => {
            write!(stream, "HTTP/1.1 200 .\r\nConnection: close\r\n\r\n[[1")?;
            loop {
                stream.write_all(&[b'1'; 1 << 16])?;
            }
        }
    }
}

fn half(mut stream: &TcpStream, body: &str) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 .\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body.as_bytes()[..body.len() / 2])
}

/// A vector of length 1 that depends on the text alone (FNV-1a and a linear congruence).
pub fn vector(text: &str, dims: usize) -> Vec<f32> {
    let mut state =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let mut row: Vec<f32> = (0..dims).map(|_| next()).collect();
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    row.iter_mut().for_each(|x| *x /= length);
    row
}

/// A server of one of the kinds `openai`, `tei`, `ollama` and `cohere`, with one model called `tiny` of `dims` components; 404 for what
/// is no route of that kind.
pub fn model(kind: &'static str, dims: usize) -> impl Fn(&Request, usize) -> Reply + Send + Sync + 'static {
    move |request, _| {
        let body = request.json();
        let rows = |texts: &Value, width: &Value| -> Vec<Vec<f32>> {
            let width = width.as_u64().map_or(dims, |n| n as usize);
            texts.as_array().into_iter().flatten().map(|t| vector(t.as_str().unwrap_or_default(), width)).collect()
        };
        let value = match (kind, request.path.as_str()) {
            ("openai", "/v1/models") => json!({ "object": "list", "data": [{ "id": "tiny", "object": "model" }] }),
            ("openai", "/v1/embeddings") => {
                let rows = rows(&body["input"], &body["dimensions"]);
                let item = |(i, row)| json!({ "object": "embedding", "index": i, "embedding": row });
                let data: Vec<Value> = rows.iter().enumerate().rev().map(item).collect();
                json!({ "object": "list", "model": "tiny", "data": data, "usage": { "prompt_tokens": 3 * data.len() } })
            }
            ("tei", "/info") => json!({ "model_id": "tiny", "model_sha": "1", "max_client_batch_size": 4,
                "max_input_length": 512, "model_type": { "embedding": { "pooling": "cls" } } }),
            ("tei", "/embed") => json!(rows(&body["inputs"], &body["dimensions"])),
            ("tei", "/tokenize") => {
                let of = |text: &Value| {
                    let words = text.as_str().unwrap_or_default().split_whitespace().enumerate();
                    words.map(|(i, word)| json!({ "id": i, "text": word, "special": false })).collect::<Vec<_>>()
                };
                json!(body["inputs"].as_array().into_iter().flatten().map(of).collect::<Vec<_>>())
            }
            ("ollama", "/api/version") => json!({ "version": "0.33.0" }),
            ("ollama", "/api/tags") => json!({ "models": [{ "name": "tiny:latest", "digest": "1" }] }),
            ("ollama", "/api/embed") => {
                json!({ "model": "tiny", "embeddings": rows(&body["input"], &body["dimensions"]), "prompt_eval_count": 5 })
            }
            ("cohere", "/v2/embed") => {
                json!({ "embeddings": { "float": rows(&body["texts"], &body["output_dimension"]) }, "texts": body["texts"],
                    "meta": { "billed_units": { "input_tokens": 7 } } })
            }
            _ => return Reply::status(404, "{\"error\":\"no such route\"}"),
        };
        Reply::json(&value)
    }
}
