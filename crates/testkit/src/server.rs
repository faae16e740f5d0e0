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

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, PartialEq)]
enum Connection {
    Close,
    Keep,
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
        Self::serving(answer, Connection::Close)
    }

    /// As [`Server::start`], with connections that stay open from request to request.
    ///
    /// # Panics
    /// Where the loopback has no free port.
    pub fn keep_alive(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::serving(answer, Connection::Keep)
    }

    fn serving(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static, connection: Connection) -> Self {
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
                    let _ = serve(&stream, &seen, &*answer, connection);
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
    stream: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request, usize) -> Reply + Send + Sync),
    connection: Connection,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let number = {
            let mut seen = seen.lock().expect("no answer panicked");
            seen.push(request.clone());
            seen.len() - 1
        };
        reply(stream, answer(&request, number), connection)?;
        if connection == Connection::Close {
            break;
        }
    }
    Ok(())
}

/// The next request; `None` where the client has gone away.
fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
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
    Ok(Some(request))
}

/// Writes an answer; an error where it is one that ends the connection.
fn reply(mut stream: &TcpStream, reply: Reply, connection: Connection) -> io::Result<()> {
    let ended = || Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    match reply {
        Reply::Whole(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} .\r\nContent-Length: {}\r\n", body.len());
            if connection == Connection::Close {
                head.push_str("Connection: close\r\n");
            }
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            // In one piece: the second of two would wait for the acknowledgement of the first, 40 ms.
            stream.write_all(format!("{head}\r\n{body}").as_bytes())
        }
        Reply::Half(body) => half(stream, &body).and_then(|()| ended()),
        Reply::Stall(body) => {
            half(stream, &body)?;
            stream.read(&mut [0]).and_then(|_| ended())
        }
        Reply::Silence => stream.read(&mut [0]).and_then(|_| ended()),
        Reply::Close => ended(),
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

/// Little-endian floats in base64, with padding.
fn base64(row: &[f32]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
    let four = |three: &[u8]| {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        let letter = |i: usize| LETTERS[(bits >> (18 - 6 * i)) as usize & 63] as char;
        (0..4).map(|i| if i <= three.len() { letter(i) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(four).collect()
}

/// A server of one of the kinds `embral`, `openai`, `tei`, `ollama` and `cohere`, with one model called `tiny` of `dims` components; 404 for what
/// is no route of that kind, 422 for texts that are none.
pub fn model(kind: &'static str, dims: usize) -> impl Fn(&Request, usize) -> Reply + Send + Sync + 'static {
    move |request, _| {
        let body = request.json();
        let rows = |texts: &Value, width: &Value| -> Vec<Vec<f32>> {
            let width = width.as_u64().map_or(dims, |n| n as usize);
            let texts = texts.as_array().map_or(std::slice::from_ref(texts), Vec::as_slice);
            texts.iter().map(|t| vector(t.as_str().unwrap_or_default(), width)).collect()
        };
        let routes = ["/embral/v1/embed", "/v1/embeddings", "/embed", "/api/embed", "/v2/embed"];
        let texts = ["input", "inputs", "texts"].map(|field| &body[field]);
        if routes.contains(&request.path.as_str()) && !texts.iter().any(|t| t.is_string() || t.is_array()) {
            return Reply::status(422, "{\"error\":\"expected texts\"}");
        }
        let value = match (kind, request.path.as_str()) {
            ("embral", "/embral/v1/embed") => {
                let rows = rows(&body["input"], &body["dimensions"]);
                let item = |(i, row)| json!({ "index": i, "embedding": row });
                let data: Vec<Value> = rows.iter().enumerate().map(item).collect();
                json!({ "model": "tiny", "dimensions": dims, "data": data, "usage": { "tokens": 3 * data.len() } })
            }
            ("embral", "/embral/v1/rerank") => {
                let length = |text: &Value| text.as_str().map_or(0, str::len) as f64 / 1000.0;
                let item = |(i, text)| json!({ "index": i, "score": length(text) });
                let results: Vec<Value> =
                    body["documents"].as_array().into_iter().flatten().enumerate().map(item).collect();
                json!({ "model": "tiny", "results": results, "usage": { "tokens": 9 } })
            }
            ("embral", "/embral/v1/tokenize") => {
                let words = body["input"].as_str().unwrap_or_default().split_whitespace();
                let ids: Vec<Value> = words.map(|word| json!({ "id": word.len(), "token": word })).collect();
                json!({ "model": "tiny", "data": [ids] })
            }
            ("openai", "/v1/models") => json!({ "object": "list", "data": [{ "id": "tiny", "object": "model" }] }),
            ("openai", "/v1/embeddings") => {
                let rows = rows(&body["input"], &body["dimensions"]);
                let number = |row: &Vec<f32>| match body["encoding_format"].as_str() {
                    Some("base64") => json!(base64(row)),
                    _ => json!(row),
                };
                let item = |(i, row)| json!({ "object": "embedding", "index": i, "embedding": number(row) });
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
