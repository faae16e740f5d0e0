//! Streams: text as it is written, over both transports.

use crate::support::{Running, bits, bits_of, golden, golden_config, settings, standard, start};
use embral::{
    Embedder, Prompt,
    chunk::{Aggregate, ChunkBy, ChunkVector, Chunking, Growing, ReadyChunk},
};
use embral_server::{ModelEntry, Settings};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};
use tungstenite::{Message, WebSocket, client::IntoClientRequest, protocol::frame::coding::CloseCode};

const PATH: &str = "/embral/v1/stream";

/// A client of lines. It sends and reads as it is told to.
struct Talk {
    stream: BufReader<TcpStream>,
    /// What came of the body and is not a whole line yet.
    body: Vec<u8>,
}

impl Talk {
    fn begin(server: &Running) -> Self {
        Self::with(server, "")
    }

    fn with(server: &Running, headers: &str) -> Self {
        let mut stream = server.connect();
        let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{headers}transfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Self { stream: BufReader::new(stream), body: Vec::new() }
    }

    fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.stream.get_mut().write_all(&chunk)
    }

    fn say(&mut self, line: &Value) {
        self.bytes(format!("{line}\n").as_bytes()).unwrap();
    }

    fn end(&mut self) {
        self.stream.get_mut().write_all(b"0\r\n\r\n").unwrap();
    }

    /// The status of the answer.
    fn status(&mut self) -> u16 {
        let mut status = None;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            status = status.or(line.split(' ').nth(1).and_then(|status| status.parse().ok()));
            if line == "\r\n" {
                return status.unwrap();
            }
        }
    }

    /// The next line of the answer; none behind the last.
    fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.body.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.body.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let mut size = String::new();
            self.stream.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut data = vec![0; size + 2];
            self.stream.read_exact(&mut data).unwrap();
            if size == 0 {
                return None;
            }
            self.body.extend_from_slice(&data[..size]);
        }
    }

    fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.line()).collect()
    }
}

type Socket = WebSocket<TcpStream>;

fn socket(server: &Running, headers: &[(&'static str, String)]) -> Result<Socket, u16> {
    let mut request = format!("ws://{}{PATH}", server.address).into_client_request().unwrap();
    headers.iter().for_each(|(name, value)| drop(request.headers_mut().insert(*name, value.parse().unwrap())));
    match tungstenite::client(request, server.connect()) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            Err(response.status().as_u16())
        }
        Err(e) => panic!("{e}"),
    }
}

fn say(socket: &mut Socket, line: &Value) {
    socket.send(Message::text(line.to_string())).unwrap();
}

/// The next message, or the code that the socket is closed with.
fn hear(socket: &mut Socket) -> Result<Value, u16> {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => return Err(frame.map_or(0, |frame| frame.code.into())),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn hear_all(socket: &mut Socket) -> (Vec<Value>, u16) {
    let mut all = Vec::new();
    loop {
        match hear(socket) {
            Ok(line) => all.push(line),
            Err(code) => return (all, code),
        }
    }
}

fn document(words: usize) -> String {
    const WORDS: [&str; 12] =
        ["cat", "dog.", "the", "mat", "ran", "over", "house,", "red", "street.\n\n", "é", "one", "two!"];
    (0..words).map(|i| format!("{} ", WORDS[(i * i + 7 * i) % 12])).collect()
}

fn pieces(text: &str, size: usize) -> Vec<&str> {
    let mut rest = text;
    std::iter::from_fn(|| {
        let (piece, behind) = rest.split_at(rest.floor_char_boundary(size));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
    .collect()
}

/// What the library makes of a text.
fn wanted(embedder: &Arc<Embedder>, text: &str, chunking: &Chunking, prompt: Prompt<'_>) -> Vec<ChunkVector> {
    let mut growing = Growing::new(Arc::clone(embedder), chunking, prompt).unwrap();
    let mut chunks: Vec<ReadyChunk> = growing.push(text).unwrap();
    chunks.extend(growing.finish().unwrap());
    let ranges: Vec<_> = chunks.iter().map(|chunk| chunk.bytes.clone()).collect();
    let rows = embedder.embed_chunks_of(&[(text, &ranges[..])], chunking, prompt).unwrap();
    let row = |(chunk, (ready, row)): (usize, (ReadyChunk, &[f32]))| ChunkVector {
        document: 0,
        chunk,
        bytes: ready.bytes,
        tokens: ready.tokens,
        vector: row.to_vec(),
    };
    chunks.into_iter().zip(rows.rows()).enumerate().map(row).collect()
}

/// Checks all lines of an answer against what the library gives.
fn check(lines: &[Value], wanted: &[ChunkVector], aggregate: Option<(Aggregate, bool)>) {
    let (done, chunks) = lines.split_last().unwrap();
    assert_eq!(chunks.len(), wanted.len(), "{done}");
    for (line, wanted) in chunks.iter().zip(wanted) {
        let chunk = &line["chunk"];
        assert_eq!(chunk["index"], wanted.chunk);
        assert_eq!((&chunk["start"], &chunk["end"]), (&json!(wanted.bytes.start), &json!(wanted.bytes.end)));
        assert_eq!(chunk["tokens"], wanted.tokens);
        assert_eq!(bits_of(&chunk["embedding"]), bits(&wanted.vector));
    }
    assert_eq!((&done["done"], &done["chunks"]), (&json!(true), &json!(wanted.len())));
    assert_eq!(done["tokens"], wanted.iter().map(|chunk| chunk.tokens).sum::<usize>());
    match aggregate {
        Some((how, normalize)) => assert_eq!(bits_of(&done["aggregate"]), bits(&how.combine(wanted, normalize))),
        None => assert_eq!(done["aggregate"], Value::Null),
    }
}

fn default_model() -> Arc<Embedder> {
    Arc::new(Embedder::open_default().unwrap())
}

/// Waits until the server says that nothing waits, runs or streams.
fn quiet(server: &Running) {
    let begin = Instant::now();
    loop {
        let status = server.get("/embral/v1/status").json(200);
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        let queue = &status["models"][0]["queue"];
        if queue["waiting_sequences"] == 0 && queue["running_sequences"] == 0 && metrics.contains("embral_streams 0") {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{queue}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn chunks_come_while_the_text_is_written() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Arc::new(Embedder::with_config(golden_config("tiny_bert")).unwrap());
    let text = document(600);
    for (by, name) in [(ChunkBy::Tokens, "tokens"), (ChunkBy::Sentences, "sentences"), (ChunkBy::Markdown, "markdown")]
    {
        let chunking = Chunking { by, size: Some(12), overlap: 2, late: false };
        let wanted = wanted(&embedder, &text, &chunking, Prompt::Default);
        let mut talk = Talk::begin(&server);
        talk.say(&json!({ "chunking": { "by": name, "size": 12, "overlap": 2 }, "aggregate": "weighted" }));
        let (first, rest) = text.split_at(text.floor_char_boundary(2000));
        pieces(first, 7).into_iter().for_each(|piece| talk.say(&json!({ "text": piece })));
        assert_eq!(talk.status(), 200);
        // The rest of the text is not sent yet.
        let ready = wanted.iter().take_while(|chunk| chunk.bytes.end < 900).count();
        assert!(ready > 5, "{ready}");
        let mut lines: Vec<Value> = (0..ready).map(|_| talk.line().unwrap()).collect();
        pieces(rest, 333).into_iter().for_each(|piece| talk.say(&json!({ "text": piece })));
        talk.say(&json!({ "end": true }));
        lines.extend(talk.rest());
        check(&lines, &wanted, Some((Aggregate::Weighted, true)));
        talk.end();
    }
    quiet(&server);
}

#[test]
fn a_client_that_sends_everything_first_gets_everything_then() {
    let (server, embedder) = (standard(), default_model());
    let text = document(20_000);
    let chunking = Chunking { by: ChunkBy::Sentences, size: Some(100), ..Chunking::default() };
    let wanted = wanted(&embedder, &text, &chunking, Prompt::Default);
    let first = json!({ "chunking": { "by": "sentences", "size": 100 }, "aggregate": "attention" }).to_string();
    let lines: Vec<String> = pieces(&text, 5000).iter().map(|piece| json!({ "text": piece }).to_string()).collect();
    // Without an end but that of the body, with blank lines and without one behind the last.
    let body = format!("\r\n{first}\r\n\n{}", lines.join("\n \n"));
    let mut talk = Talk { stream: BufReader::new(server.connect()), body: Vec::new() };
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    talk.stream.get_mut().write_all(head.as_bytes()).unwrap();
    talk.stream.get_mut().write_all(body.as_bytes()).unwrap();
    assert_eq!(talk.status(), 200);
    check(&talk.rest(), &wanted, Some((Aggregate::Attention, true)));
    // All of it in the first line, and a connection that is used again.
    let body = json!({ "text": text, "end": true, "chunking": { "by": "sentences", "size": 100 } }).to_string();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    talk.stream.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
    assert_eq!(talk.status(), 200);
    check(&talk.rest(), &wanted, None);
}

#[test]
fn a_websocket_gives_the_same() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Arc::new(Embedder::with_config(golden_config("tiny_bert")).unwrap());
    let text = document(3000);
    let chunking = Chunking { by: ChunkBy::Tokens, size: Some(10), overlap: 3, late: false };
    let wanted = wanted(&embedder, &text, &chunking, Prompt::Text("passage: "));
    let mut socket = socket(&server, &[]).unwrap();
    say(&mut socket, &json!({ "chunking": { "size": 10, "overlap": 3 }, "prompt": "passage: ", "aggregate": "max" }));
    let (first, rest) = text.split_at(text.floor_char_boundary(1000));
    pieces(first, 11).into_iter().for_each(|piece| say(&mut socket, &json!({ "text": piece })));
    let mut lines = vec![hear(&mut socket).unwrap()];
    pieces(rest, 2000).into_iter().for_each(|piece| say(&mut socket, &json!({ "text": piece })));
    say(&mut socket, &json!({ "end": true }));
    let (more, code) = hear_all(&mut socket);
    lines.extend(more);
    assert_eq!(code, 1000);
    check(&lines, &wanted, Some((Aggregate::Max, true)));
    quiet(&server);
}

#[test]
fn a_flush_brings_what_is_there() {
    let (server, embedder) = (standard(), default_model());
    let mut socket = socket(&server, &[]).unwrap();
    say(&mut socket, &json!({ "aggregate": "mean" }));
    let mut chunks = Vec::new();
    for (number, (text, start)) in [("  Cats sleep. ", 0), ("Dogs walk.", 14)].into_iter().enumerate() {
        say(&mut socket, &json!({ "text": text, "flush": true }));
        say(&mut socket, &json!({ "flush": true }));
        let chunk = hear(&mut socket).unwrap()["chunk"].clone();
        let vector = embedder.embed(text.trim()).unwrap();
        assert_eq!(
            (&chunk["index"], &chunk["start"], &chunk["end"]),
            (&json!(number), &json!(start), &json!(start + text.len()))
        );
        assert_eq!(bits_of(&chunk["embedding"]), bits(&vector));
        let tokens = chunk["tokens"].as_u64().unwrap() as usize;
        chunks.push(ChunkVector { document: 0, chunk: number, bytes: start..start + text.len(), tokens, vector });
    }
    say(&mut socket, &json!({ "text": " \n", "end": true }));
    let done = hear(&mut socket).unwrap();
    assert_eq!(done["chunks"], 2, "white space behind a flush is no chunk");
    assert_eq!(bits_of(&done["aggregate"]), bits(&Aggregate::Mean.combine(&chunks, true)));
    assert_eq!(hear(&mut socket), Err(1000));
}

#[test]
fn no_text_is_one_empty_chunk_as_in_the_library() {
    let (server, embedder) = (standard(), default_model());
    let mut talk = Talk::begin(&server);
    talk.say(&json!({}));
    talk.end();
    assert_eq!(talk.status(), 200);
    let lines = talk.rest();
    assert_eq!(bits_of(&lines[0]["chunk"]["embedding"]), bits(&embedder.embed("").unwrap()));
    assert_eq!((lines.len(), &lines[1]["chunks"]), (2, &json!(1)));
}

#[test]
fn vectors_come_in_the_forms_that_are_asked_for() {
    let (server, embedder) = (standard(), default_model());
    let text = "Cats sleep most of the day.";
    let mut talk = Talk::begin(&server);
    talk.say(&json!({
        "text": text, "end": true, "encodings": ["base64", "f16", "binary"], "dimensions": 64, "aggregate": "mean",
    }));
    assert_eq!(talk.status(), 200);
    let lines = talk.rest();
    let config = embral::Config { dims: Some(64), ..embral::Config::default() };
    let row = Embedder::with_config(config).unwrap().embed(text).unwrap();
    let chunk = &lines[0]["chunk"];
    assert_eq!(chunk["base64"], embral::base64::encode(&row));
    assert_eq!((chunk["f16"].as_str().map(str::len), chunk["binary"].as_array().map(Vec::len)), (Some(172), Some(8)));
    assert!(chunk.get("embedding").is_none());
    assert_eq!(lines[1]["aggregate"], Value::Null);
    assert!(lines[1]["base64"].is_string() && lines[1]["f16"].is_string());
    assert_eq!(embedder.dimensions(), 256);
}

#[test]
fn what_is_wrong_with_the_first_line_has_a_status_of_its_own() {
    let reranker = embral_testkit::tasks::TaskGolden::load("tiny_reranker");
    let name = reranker.folder().to_str().unwrap().to_owned();
    let ranks = ModelEntry { name, aliases: vec!["ranks".to_owned()], ..ModelEntry::default() };
    let server = start(Settings {
        models: vec![ModelEntry::default(), ranks],
        body_limit: Some("64KiB".to_owned()),
        ..settings()
    });
    for (line, status, kind, code) in [
        (json!({ "model": "nobody" }), 404, "not_found", 1007),
        (json!({ "model": "ranks" }), 501, "unsupported", 1003),
        (json!({ "chunking": { "late": true } }), 501, "unsupported", 1003),
        (json!({ "chunking": { "by": "document" } }), 400, "invalid_input", 1007),
        (json!({ "chunking": { "size": 0 } }), 400, "invalid_input", 1007),
        (json!({ "aggregate": "median" }), 400, "invalid_input", 1007),
        (json!({ "dimensions": 100_000 }), 400, "invalid_input", 1007),
        (json!({ "input": "a" }), 400, "invalid_input", 1007),
        (json!({ "encodings": ["int8"] }), 501, "unsupported", 1003),
        (json!({ "input_type": "query", "prompt": "a" }), 400, "invalid_input", 1007),
        (json!([]), 400, "invalid_input", 1007),
        (json!({ "text": "a".repeat(70_000) }), 413, "too_large", 1009),
    ] {
        let reply = server.send("POST", PATH, &[], format!("{line}\n").as_bytes());
        assert_eq!(reply.json(status)["error"]["kind"], kind, "{line}");
        let mut socket = socket(&server, &[]).unwrap();
        say(&mut socket, &line);
        let error = hear(&mut socket).unwrap();
        assert_eq!(error["error"]["kind"], kind, "{error}");
        assert_eq!(hear(&mut socket), Err(code));
    }
    assert_eq!(server.send("POST", PATH, &[], b"").json(400)["error"]["kind"], "invalid_input");
    assert_eq!(server.send("POST", PATH, &[], b"{").status, 400);
    assert_eq!(server.get(PATH).json(400)["error"]["kind"], "invalid_input");
    assert_eq!(server.send("DELETE", PATH, &[], b"").status, 405);
    quiet(&server);
}

#[test]
fn what_is_wrong_later_is_the_last_line() {
    let server = start(Settings { body_limit: Some("64KiB".to_owned()), ..settings() });
    let long = json!({ "text": "a".repeat(70_000) }).to_string();
    let end = json!({ "text": document(10_000), "end": true }).to_string();
    for (lines, kind, code) in [
        (vec!["{"], "invalid_input", 1007),
        (vec!["{\"text\":1}"], "invalid_input", 1007),
        (vec!["{\"model\":\"x\"}"], "invalid_input", 1007),
        (vec!["{}"], "invalid_input", 1007),
        (vec![end.as_str(), "{\"text\":\"a\"}"], "invalid_input", 1007),
        (vec![long.as_str()], "too_large", 1009),
    ] {
        let mut talk = Talk::begin(&server);
        // Enough text that chunks are under way when the end has come.
        let all = [vec!["{\"text\":\"cats sleep\"}"], lines.clone()].concat().join("\n");
        let head = json!({ "chunking": { "size": 8 }, "text": document(2000) });
        talk.bytes(format!("{head}\n{all}\n").as_bytes()).unwrap();
        assert_eq!(talk.status(), 200);
        let found = talk.rest();
        assert_eq!(found.last().unwrap()["error"]["kind"], kind, "{:.60}", lines[0]);
        assert!(found[..found.len() - 1].iter().all(|line| line["chunk"].is_object()));
        let mut socket = socket(&server, &[]).unwrap();
        say(&mut socket, &head);
        for line in lines {
            // What comes after the refusal may find the socket closed.
            let _ = socket.send(Message::text(line));
        }
        let (found, closed) = hear_all(&mut socket);
        assert_eq!((&found.last().unwrap()["error"]["kind"], closed), (&json!(kind), code));
    }
    let mut socket = socket(&server, &[]).unwrap();
    say(&mut socket, &json!({}));
    socket.send(Message::binary(vec![0_u8, 1])).unwrap();
    assert_eq!(hear(&mut socket).unwrap()["error"]["kind"], "invalid_input");
    assert_eq!(hear(&mut socket), Err(1003));
    quiet(&server);
}

#[test]
fn of_a_client_that_leaves_nothing_is_left() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let head = json!({ "chunking": { "size": 10 }, "aggregate": "attention" });
    for _ in 0..4 {
        let mut talk = Talk::begin(&server);
        talk.say(&head);
        talk.say(&json!({ "text": document(20_000) }));
        talk.status();
        talk.line().unwrap();
        drop(talk);
        let mut socket = socket(&server, &[]).unwrap();
        say(&mut socket, &head);
        say(&mut socket, &json!({ "text": document(20_000) }));
        hear(&mut socket).unwrap();
        drop(socket);
    }
    // In the middle of a line, and of a handshake.
    let mut talk = Talk::begin(&server);
    talk.bytes(b"{\"text\":\"abc").unwrap();
    drop(talk);
    quiet(&server);
    let mut polite = socket(&server, &[]).unwrap();
    say(&mut polite, &head);
    polite.close(None).unwrap();
    while polite.read().is_ok() {}
    quiet(&server);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let server = start(Settings { body_limit: Some("1MiB".to_owned()), ..settings() });
    let text = document(1000);
    let line = json!({ "text": text }).to_string();
    let (mut talk, mut lines) = (Talk::begin(&server), 0);
    talk.say(&json!({ "chunking": { "size": 8 }, "aggregate": "mean" }));
    talk.stream.get_mut().set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let chunk = format!("{:x}\r\n{line}\n\r\n", line.len() + 1).into_bytes();
    // 16 KiB of text are some 600 KiB of vectors: the buffers of the system are full after a few megabytes of them.
    let mut open = 0;
    loop {
        assert!(lines < 4000, "{lines} lines were taken of a client that reads nothing");
        match talk.stream.get_mut().write(&chunk[open..]) {
            Ok(written) => open = (open + written) % chunk.len(),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(e) => panic!("{e}"),
        }
        lines += usize::from(open == 0);
    }
    // Once it reads, it is read from again, and nothing is lost.
    let mut writer = talk.stream.get_ref().try_clone().unwrap();
    writer.set_write_timeout(None).unwrap();
    let rest = chunk[open..].to_vec();
    let writing = std::thread::spawn(move || {
        writer.write_all(&rest).unwrap();
        writer.write_all(b"0\r\n\r\n").unwrap();
    });
    assert_eq!(talk.status(), 200);
    let mut reached = 0;
    let done = loop {
        let line = talk.line().unwrap();
        if line["done"] == true {
            break line;
        }
        assert_eq!(line["chunk"]["start"], reached);
        reached = line["chunk"]["end"].as_u64().unwrap();
    };
    writing.join().unwrap();
    let whole = lines as u64 + u64::from(open > 0 || lines == 0);
    assert_eq!(reached, whole * text.len() as u64, "{done}");
    quiet(&server);
}

#[test]
fn streams_are_told_that_the_server_stops() {
    let mut server = start(Settings { shutdown_timeout: Some(20), ..settings() });
    let mut talk = Talk::begin(&server);
    talk.say(&json!({}));
    assert_eq!(talk.status(), 200);
    let mut socket = socket(&server, &[]).unwrap();
    say(&mut socket, &json!({ "text": "a cat", "flush": true }));
    hear(&mut socket).unwrap();
    // A client that never reads and never leaves.
    let mut silent = Talk::begin(&server);
    silent.say(&json!({}));
    let begin = Instant::now();
    let stopped = std::thread::spawn(server.stopping());
    assert_eq!(talk.rest().last().unwrap()["error"]["kind"], "unavailable");
    assert_eq!(hear(&mut socket).unwrap()["error"]["kind"], "unavailable");
    assert_eq!(hear(&mut socket), Err(CloseCode::Away.into()));
    drop((talk, socket));
    stopped.join().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

#[test]
fn keys_and_origins_hold_for_streams() {
    let server = start(Settings { api_key: Some("k=/+ey".to_owned()), requests_per_minute: Some(7), ..settings() });
    assert_eq!(Talk::begin(&server).status(), 401);
    let mut talk = Talk::with(&server, "authorization: Bearer k=/+ey\r\n");
    talk.say(&json!({ "end": true }));
    assert_eq!(talk.status(), 200);
    let bearer = |key: &str| [("authorization", format!("Bearer {key}"))];
    assert_eq!(socket(&server, &bearer("wrong")).err(), Some(401));
    let end = json!({ "end": true });
    let mut known = socket(&server, &bearer("k=/+ey")).unwrap();
    say(&mut known, &end);
    assert_eq!(hear_all(&mut known).1, 1000);
    let first = |line: Value| {
        let mut socket = socket(&server, &[]).unwrap();
        say(&mut socket, &line);
        let (lines, code) = hear_all(&mut socket);
        (lines.last().unwrap()["error"]["kind"].as_str().map(str::to_owned), code)
    };
    assert_eq!(first(json!({ "key": "k=/+ey", "end": true })), (None, 1000));
    assert_eq!(first(json!({ "key": "wrong", "end": true })), (Some("unauthorized".to_owned()), 1008));
    assert_eq!(first(end), (Some("unauthorized".to_owned()), 1008));
    for _ in 0..4 {
        assert_eq!(first(json!({ "key": "k=/+ey", "end": true })).1, 1000);
    }
    assert_eq!(first(json!({ "key": "k=/+ey" })), (Some("rate_limited".to_owned()), 1008));
    let page = [("origin", "https://example.com".to_owned())];
    assert_eq!(socket(&server, &page).err(), Some(403));
    let server = standard();
    assert_eq!(socket(&server, &page).err(), Some(403));
    assert_eq!(server.send("POST", PATH, &[("origin", "https://example.com")], b"{}").status, 403);
    assert!(socket(&server, &[("origin", format!("http://{}", server.address))]).is_ok());
}

#[test]
fn a_silent_client_is_kept_while_it_shows_that_it_lives() {
    let server = start(Settings { client_timeout: Some(1), ..settings() });
    let mut talk = Talk::begin(&server);
    talk.say(&json!({}));
    let mut alive = socket(&server, &[]).unwrap();
    say(&mut alive, &json!({}));
    let mut dead = socket(&server, &[]).unwrap();
    say(&mut dead, &json!({}));
    let begin = Instant::now();
    alive.get_ref().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    while begin.elapsed() < Duration::from_millis(2500) {
        // Reading is what answers pings.
        assert!(matches!(alive.read(), Err(tungstenite::Error::Io(_)) | Ok(Message::Ping(_))));
        talk.bytes(b"\n").unwrap();
    }
    alive.get_ref().set_read_timeout(None).unwrap();
    say(&mut alive, &json!({ "text": "a cat", "end": true }));
    assert_eq!(hear_all(&mut alive).0.len(), 2);
    let (told, code) = hear_all(&mut dead);
    assert_eq!((&told[0]["error"]["kind"], code), (&json!("timeout"), 1008));
    talk.say(&json!({ "text": "a cat", "flush": true }));
    assert_eq!(talk.status(), 200);
    assert!(talk.line().unwrap()["chunk"].is_object());
    assert_eq!(talk.rest().last().unwrap()["error"]["kind"], "timeout");
    let mut nothing = socket(&server, &[]).unwrap();
    assert_eq!(hear(&mut nothing).unwrap()["error"]["kind"], "timeout");
}

#[test]
fn so_many_streams_may_be_open() {
    let server = start(Settings { max_connections: Some(3), ..settings() });
    let sockets: Vec<Socket> = (0..3).map(|_| socket(&server, &[]).unwrap()).collect();
    assert_eq!(socket(&server, &[]).err(), Some(429));
    drop(sockets);
    quiet(&server);
    assert!(socket(&server, &[]).is_ok());
}
