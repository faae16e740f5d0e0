//! The routes of the hub that a download uses, over HTTP/1.1 on a port of the system's choice.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

#[derive(Clone, Debug)]
pub(super) struct Repository {
    pub(super) commit: String,
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    path: String,
    range: Option<String>,
    pub(super) token: Option<String>,
}

struct State {
    repo: String,
    repository: Repository,
    requests: Vec<Request>,
    /// How often a file is broken off after half of what was asked for.
    breaks: HashMap<String, usize>,
    status: Option<u16>,
    tag: Option<String>,
    stop: bool,
}

pub(super) struct Server {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

/// The tag of large files on the hub: their SHA-256.
pub(super) fn etag(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

impl Server {
    pub(super) fn start(repo: &str, repository: Repository) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            repo: repo.to_owned(),
            repository,
            requests: vec![],
            breaks: HashMap::new(),
            status: None,
            tag: None,
            stop: false,
        }));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.lock().unwrap().stop {
                    return;
                }
                // A client that goes away early is its own affair.
                let _ = answer(&stream, &shared);
            }
        });
        Self { url, state, thread: Some(thread) }
    }

    pub(super) fn serve(&self, repository: Repository) {
        self.state.lock().unwrap().repository = repository;
    }

    pub(super) fn break_off(&self, file: &str, times: usize) {
        self.state.lock().unwrap().breaks.insert(file.to_owned(), times);
    }

    pub(super) fn answer_with(&self, status: u16) {
        self.state.lock().unwrap().status = Some(status);
    }

    pub(super) fn tag_with(&self, tag: &str) {
        self.state.lock().unwrap().tag = Some(tag.to_owned());
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The ranges asked for in downloads of a file; the look at its headers asks for the first byte and is left out.
    pub(super) fn ranges(&self, file: &str) -> Vec<Option<String>> {
        let of_file = self.requests().into_iter().filter(|r| r.path.ends_with(file));
        of_file.map(|r| r.range).filter(|range| range.as_deref() != Some("bytes=0-0")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.lock().unwrap().stop = true;
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path, range: None, token: None };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.token = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut state = state.lock().unwrap();
    state.requests.push(request.clone());
    let repository = state.repository.clone();
    let info = format!("/api/models/{}/revision/", state.repo);
    if let Some(status) = state.status {
        return write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if request.path.starts_with(&info) {
        let names = repository.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect::<Vec<_>>();
        let body = serde_json::json!({ "sha": repository.commit, "siblings": names }).to_string();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    let file = request.path.strip_prefix(&format!("/{}/resolve/{}/", state.repo, repository.commit));
    let Some((file, bytes)) = file.and_then(|file| Some((file, repository.files.get(file)?))) else {
        return write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let tag = state.tag.clone().unwrap_or_else(|| etag(bytes));
    let range = request.range.as_deref().and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
    let (start, end) = match range {
        Some((start, "")) => (start.parse().unwrap(), bytes.len()),
        Some((start, end)) => (start.parse().unwrap(), end.parse::<usize>().unwrap() + 1),
        None => (0, bytes.len()),
    };
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let part = &bytes[start..end];
    write!(
        stream,
        "HTTP/1.1 {status}\r\nETag: \"{tag}\"\r\nX-Repo-Commit: {}\r\nContent-Range: bytes {start}-{}/{}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        repository.commit,
        end - 1,
        bytes.len(),
        part.len()
    )?;
    let look = request.range.as_deref() == Some("bytes=0-0");
    match state.breaks.get_mut(file) {
        Some(times) if *times > 0 && !look => {
            *times -= 1;
            stream.write_all(&part[..part.len() / 2])
        }
        _ => stream.write_all(part),
    }
}
