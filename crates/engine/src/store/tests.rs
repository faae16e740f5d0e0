//! The store against a hub of its own on the loopback interface.

mod server;

use super::*;
use server::{Repository, Server};
use std::collections::BTreeMap;

/// Bytes that compress badly and differ everywhere.
fn noise(n: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn tiny() -> Repository {
    let files: [(&str, &[u8]); 9] = [
        (".gitattributes", b"x"),
        ("1_Pooling/config.json", b"{\"pooling_mode_mean_tokens\":true}"),
        ("config.json", b"{}"),
        ("model.safetensors", &noise(300_000)),
        ("modules.json", b"[]"),
        ("onnx/model.onnx", b"large"),
        ("tf_model.h5", b"large"),
        ("tokenizer.json", b"{\"a\":1}"),
        ("../evil.json", b"{}"),
    ];
    Repository { commit: "c".repeat(40), files: files.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())).collect() }
}

struct Setting {
    _folder: tempfile::TempDir,
    store: Store,
}

impl Setting {
    fn new(endpoint: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment {
            hub_cache: folder.path().join("hub"),
            imported: folder.path().join("models"),
            ranges: folder.path().join("ranges"),
            endpoint: endpoint.to_owned(),
            token: Some("hf_secret".to_owned()),
            offline: false,
            packed: Some(folder.path().join("packed")),
            vectors: Some(folder.path().join("vectors")),
            vector_cache: None,
            keep_packed: true,
        };
        Self { _folder: folder, store: Store::new(environment) }
    }

    fn unplugged(&self) -> Store {
        // Nothing listens on the discard port of the loopback interface.
        Store::new(Environment { endpoint: "http://127.0.0.1:9".to_owned(), ..self.store.environment().clone() })
    }
}

#[derive(Default)]
struct Told(BTreeMap<String, (u64, u64)>, String);

impl Progress for Told {
    fn begin(&mut self, file: &str, bytes: u64) {
        self.0.insert(file.to_owned(), (bytes, 0));
        file.clone_into(&mut self.1);
    }

    fn advance(&mut self, bytes: u64) {
        self.0.get_mut(&self.1).unwrap().1 += bytes;
    }

    fn end(&mut self) {
        self.1.clear();
    }
}

#[test]
fn what_is_needed_is_fetched_once_and_then_found_without_a_network() {
    let server = Server::start("org/tiny", tiny());
    let setting = Setting::new(&server.url);
    let mut told = Told::default();
    let options = ResolveOptions { progress: Some(&mut told), ..Default::default() };
    let folder = setting.store.resolve("org/tiny", options).unwrap();
    assert_eq!(
        snapshot::names(&folder),
        ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json"]
    );
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), noise(300_000));
    assert_eq!(told.0["model.safetensors"], (300_000, 300_000));
    assert_eq!(told.0.len(), 5);
    assert!(server.requests().iter().all(|r| r.token.as_deref() == Some("Bearer hf_secret")));
    let repo = setting.store.environment().hub_cache.join("models--org--tiny");
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), "c".repeat(40));
    #[cfg(unix)]
    assert!(fs::read_link(folder.join("1_Pooling/config.json")).unwrap().starts_with("../../../blobs"));
    drop(server);
    assert_eq!(setting.unplugged().resolve("org/tiny", ResolveOptions::default()).unwrap(), folder);
    let offline = ResolveOptions { offline: true, ..Default::default() };
    assert_eq!(setting.store.resolve("org/tiny", offline).unwrap(), folder);
    let pinned = ResolveOptions { revision: Some(&"c".repeat(40)), ..Default::default() };
    assert_eq!(setting.unplugged().resolve("org/tiny", pinned).unwrap(), folder);
}

/// Nobody waits any more once so many bytes are there.
struct Leaving(u64);

impl Progress for Leaving {
    fn begin(&mut self, _: &str, _: u64) {}

    fn advance(&mut self, bytes: u64) {
        self.0 = self.0.saturating_sub(bytes);
    }

    fn end(&mut self) {}

    fn is_wanted(&self) -> bool {
        self.0 > 0
    }
}

#[test]
fn a_download_that_nobody_wants_ends_and_goes_on_where_it_stopped() {
    let server = Server::start("org/tiny", tiny());
    let setting = Setting::new(&server.url);
    let mut leaving = Leaving(1000);
    let options = ResolveOptions { progress: Some(&mut leaving), ..Default::default() };
    let error = setting.store.pull("org/tiny", options).unwrap_err();
    assert!(error.to_string().contains("given up"), "{error}");
    assert_eq!(setting.store.list().unwrap(), []);
    assert!(server.ranges("tokenizer.json").is_empty());
    let folder = setting.store.pull("org/tiny", ResolveOptions::default()).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), noise(300_000));
    let ranges = server.ranges("model.safetensors");
    assert!(ranges.len() == 2 && ranges[1].as_deref().is_some_and(|range| range != "bytes=0-"), "{ranges:?}");
}

#[test]
fn a_graph_is_fetched_where_it_is_asked_for_or_alone() {
    let mut repository = tiny();
    repository.files.insert("onnx/model.onnx_data".to_owned(), noise(1000));
    let server = Server::start("org/tiny", repository.clone());
    let setting = Setting::new(&server.url);
    let graphs = |folder: &Path| -> Vec<String> {
        snapshot::names(folder).into_iter().filter(|name| name.contains("onnx")).collect()
    };
    let folder = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap();
    assert_eq!(graphs(&folder), [""; 0]);
    let with = |onnx: OnnxChoice| ResolveOptions { onnx, ..Default::default() };
    let e = setting.store.resolve("org/tiny", with(OnnxChoice::File("model_O4.onnx".into()))).unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("it has onnx/model.onnx"), "{e}");
    assert_eq!(setting.store.resolve("org/tiny", with(OnnxChoice::Always)).unwrap(), folder);
    assert_eq!(graphs(&folder), ["onnx/model.onnx", "onnx/model.onnx_data"]);
    drop(server);
    assert_eq!(setting.unplugged().resolve("org/tiny", with(OnnxChoice::Always)).unwrap(), folder);

    repository.files.remove("model.safetensors");
    let server = Server::start("org/exported", repository);
    let setting = Setting::new(&server.url);
    let folder = setting.store.resolve("org/exported", ResolveOptions::default()).unwrap();
    assert_eq!(graphs(&folder), ["onnx/model.onnx", "onnx/model.onnx_data"]);
    assert!(setting.store.list().unwrap().iter().any(|stored| stored.name == "org/exported"));
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let server = Server::start("org/tiny", tiny());
    server.break_off("model.safetensors", 2);
    let setting = Setting::new(&server.url);
    let mut told = Told::default();
    let options = ResolveOptions { progress: Some(&mut told), ..Default::default() };
    let folder = setting.store.resolve("org/tiny", options).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), noise(300_000));
    assert_eq!(told.0["model.safetensors"], (300_000, 300_000));
    let ranges = server.ranges("model.safetensors");
    assert_eq!(ranges, [None, Some("bytes=150000-".to_owned()), Some("bytes=225000-".to_owned())]);
}

#[test]
fn a_later_run_goes_on_with_what_an_earlier_one_has_left() {
    let server = Server::start("org/tiny", tiny());
    let setting = Setting::new(&server.url);
    let blobs = setting.store.environment().hub_cache.join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", server::etag(&noise(300_000))));
    fs::write(&part, &noise(300_000)[..1000]).unwrap();
    let folder = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), noise(300_000));
    assert_eq!(server.ranges("model.safetensors"), [Some("bytes=1000-".to_owned())]);
    assert!(!part.exists());
}

#[test]
fn a_download_that_is_not_what_was_announced_is_thrown_away() {
    let server = Server::start("org/tiny", tiny());
    let setting = Setting::new(&server.url);
    let blobs = setting.store.environment().hub_cache.join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", server::etag(&noise(300_000))));
    fs::write(&part, [7; 1000]).unwrap();
    let error = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    assert!(!part.exists());
    assert!(setting.store.list().unwrap().is_empty());
    setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap();
}

#[test]
fn a_server_that_never_finishes_is_given_up() {
    let server = Server::start("org/tiny", tiny());
    server.break_off("model.safetensors", usize::MAX);
    let setting = Setting::new(&server.url);
    let error = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert!(error.to_string().contains("run it again"), "{error}");
    server.break_off("model.safetensors", 0);
    setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap();
    assert!(server.ranges("model.safetensors").last().unwrap().is_some());
}

#[test]
fn offline_errors_say_what_is_missing_and_what_to_do() {
    let server = Server::start("org/tiny", tiny());
    let setting = Setting::new(&server.url);
    let offline = || ResolveOptions { offline: true, ..Default::default() };
    let error = setting.store.resolve("org/tiny", offline()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Offline);
    assert!(error.to_string().contains("embral models pull org/tiny"), "{error}");
    assert!(error.to_string().contains("embral models import"), "{error}");
    assert_eq!(setting.store.pull("org/tiny", offline()).unwrap_err().kind(), ErrorKind::Offline);
    let folder = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap();
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let error = setting.store.resolve("org/tiny", offline()).unwrap_err();
    assert!(error.to_string().contains("lacks model.safetensors"), "{error}");
    setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap();
    assert_eq!(server.ranges("model.safetensors").len(), 1, "the blob was still there");
    assert_eq!(setting.unplugged().pull("org/tiny", ResolveOptions::default()).unwrap_err().kind(), ErrorKind::Network);
}

#[test]
fn refusals_of_the_hub_are_explained() {
    let mut foreign = tiny();
    foreign.files.retain(|name, _| name != "model.safetensors" && name != "onnx/model.onnx");
    let server = Server::start("org/tiny", foreign);
    let setting = Setting::new(&server.url);
    let error = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("tf_model.h5"), "{error}");
    let error = setting.store.resolve("org/other", ResolveOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    server.answer_with(401);
    let error = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap_err();
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    server.answer_with(503);
    let error = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
}

#[test]
fn a_hostile_hub_cannot_write_outside_the_cache() {
    for commit in ["../../../evil", "..", "a/b"] {
        let server = Server::start("org/tiny", Repository { commit: commit.to_owned(), ..tiny() });
        let setting = Setting::new(&server.url);
        assert!(setting.store.resolve("org/tiny", ResolveOptions::default()).is_err(), "{commit}");
        let below = fs::read_dir(setting._folder.path()).unwrap().flatten().map(|e| e.file_name());
        assert!(below.eq(std::iter::empty::<std::ffi::OsString>()) || setting.store.environment().hub_cache.is_dir());
        assert!(!setting._folder.path().join("evil").exists());
    }
    let server = Server::start("org/tiny", tiny());
    server.tag_with("../../../evil");
    let setting = Setting::new(&server.url);
    let error = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap_err();
    assert!(error.to_string().contains("names no blob"), "{error}");
    for name in ["../x", "a/../b", "org/name/more", "~/x", "a\\b"] {
        assert_eq!(setting.store.resolve(name, ResolveOptions::default()).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(setting.store.remove(name).is_err());
    }
    let options = ResolveOptions { revision: Some("../../x"), ..Default::default() };
    assert_eq!(setting.store.resolve("org/tiny", options).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn that_there_are_no_modules_is_asked_once() {
    let mut plain = tiny();
    plain.files.remove("modules.json");
    let server = Server::start("org/tiny", plain);
    let setting = Setting::new(&server.url);
    let folder = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap();
    let asked = server.requests().len();
    assert_eq!(setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap(), folder);
    assert_eq!(server.requests().len(), asked);
    // A snapshot of another tool says nothing of modules; where the hub is away, it is used as it is.
    fs::remove_file(snapshot::no_modules(&folder).unwrap()).unwrap();
    assert_eq!(setting.unplugged().resolve("org/tiny", ResolveOptions::default()).unwrap(), folder);
    assert_eq!(setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap(), folder);
    assert!(server.requests().len() > asked);
}

#[test]
fn removal_keeps_what_another_revision_uses() {
    let server = Server::start("org/tiny", tiny());
    let setting = Setting::new(&server.url);
    let old = setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap();
    let mut changed = tiny();
    changed.commit = "d".repeat(40);
    changed.files.insert("tokenizer.json".to_owned(), b"{\"a\":2}".to_vec());
    server.serve(changed);
    assert_eq!(setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap(), old, "no network, no change");
    let new = setting.store.pull("org/tiny", ResolveOptions::default()).unwrap();
    assert_ne!(new, old);
    assert_eq!(setting.store.resolve("org/tiny", ResolveOptions::default()).unwrap(), new);
    let stored = setting.store.list().unwrap();
    assert_eq!((stored.len(), stored[0].name.as_str(), &stored[0].path), (1, "org/tiny", &new));
    assert_eq!(stored[0].source, StoredSource::Hub);
    // Only the old tokenizer.json is not shared: seven bytes.
    assert_eq!(setting.store.remove_revision("org/tiny", &"c".repeat(40)).unwrap(), 7);
    assert_eq!(fs::read(new.join("model.safetensors")).unwrap().len(), 300_000);
    assert_eq!(setting.store.remove_revision("org/tiny", "v9").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(setting.store.remove("org/tiny").unwrap() > 300_000);
    assert!(setting.store.list().unwrap().is_empty());
    assert_eq!(setting.store.remove("org/tiny").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_folder_comes_first_and_an_imported_model_before_the_hub() {
    let setting = Setting::new("http://127.0.0.1:9");
    let folder = setting._folder.path().join("some model");
    fs::create_dir(&folder).unwrap();
    let text = folder.to_str().unwrap();
    assert_eq!(setting.store.resolve(text, ResolveOptions::default()).unwrap(), folder);
    let imported = setting.store.environment().imported.join("all-MiniLM-L6-v2");
    fs::create_dir_all(&imported).unwrap();
    for name in ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"] {
        assert_eq!(setting.store.resolve(name, ResolveOptions::default()).unwrap(), imported);
    }
    let other = setting.store.resolve("somebody/all-MiniLM-L6-v2", ResolveOptions::default());
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Network, "another repository is another model");
    let error = setting.store.resolve("no-such-model", ResolveOptions::default()).unwrap_err();
    assert!(error.to_string().contains("models list"), "{error}");
    let file = folder.join("x.whl");
    fs::write(&file, b"x").unwrap();
    let error = setting.store.resolve(file.to_str().unwrap(), ResolveOptions::default()).unwrap_err();
    assert!(error.to_string().contains("models import"), "{error}");
}
