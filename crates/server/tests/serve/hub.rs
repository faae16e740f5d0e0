//! A hub on the loopback interface with the one repository `org/tiny`, and tests in a process of their own, which finds it by the
//! variables that the store reads.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

const COMMIT: &str = "0123456789012345678901234567890123456789";
/// A file of so many bytes comes so slowly that nobody waits for its end.
pub(crate) const SLOW: usize = 1 << 20;
/// Set in the process of a test of its own.
const INSIDE: &str = "EMBRAL_TEST_INSIDE";

/// Runs the test called `name` once more in a process of its own, with a store and a hub of its own, which has the files of `folder`.
/// Gives the folder of the store in that process, and nothing in this one, which has nothing more to do.
pub(crate) fn inside(name: &str, folder: &Path) -> Option<std::path::PathBuf> {
    if let Some(home) = std::env::var_os(INSIDE) {
        return Some(home.into());
    }
    let (home, url) = (tempfile::tempdir().unwrap(), start(folder));
    let own = |folder: &str| home.path().join(folder);
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, home.path())
        .env("HF_HOME", own("hf"))
        .env("EMBRAL_HOME", own("embral"))
        .env("EMBRAL_CACHE", own("cache"))
        .env("HF_ENDPOINT", url)
        .envs(
            ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"]
                .map(|name| (name, "")),
        )
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed in a process of its own");
    None
}

/// The address of a hub with these files. It serves as long as the process lives.
fn start(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut files = BTreeMap::new();
    read(folder, "", &mut files);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let files = files.clone();
            // A client that goes away early is its own affair.
            thread::spawn(move || answer(&stream, &files));
        }
    });
    url
}

fn read(folder: &Path, before: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = format!("{before}{}", entry.file_name().to_str().unwrap());
        match entry.path() {
            path if path.is_dir() => read(&path, &format!("{name}/"), files),
            path => drop(files.insert(name, std::fs::read(path).unwrap())),
        }
    }
}

fn answer(mut stream: &TcpStream, files: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            range = bytes.split_once('-').map(|(start, end)| (start.parse().unwrap(), end.parse::<usize>().ok()));
        }
    }
    if path.starts_with("/api/models/org/tiny/revision/") {
        let names: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": names }).to_string();
        let head = "Content-Type: application/json\r\nConnection: close";
        return write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    }
    let file = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"));
    let Some((name, bytes)) = file.and_then(|file| files.get_key_value(file)) else {
        return write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let (start, end) = range.unwrap_or((0, None));
    let part = &bytes[start..end.map_or(bytes.len(), |end| end + 1)];
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let (tag, all) = (name.replace('/', "-"), bytes.len());
    write!(
        stream,
        "HTTP/1.1 {status}\r\nETag: \"{tag}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {start}-{}/{all}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        start + part.len() - 1,
        part.len()
    )?;
    let slow = all >= SLOW;
    for some in part.chunks(if slow { 64 } else { all }) {
        stream.write_all(some)?;
        if slow {
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}
