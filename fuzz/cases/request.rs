//! A request to a server, of the path that the first byte says: answered, never with a fault of the server, and with no number that is none.

use embral_server::{ModelEntry, Offline, Settings};
use std::cell::OnceCell;

const PATHS: [&str; 34] = [
    "/v1/embeddings",
    "/embeddings",
    "/embral/v1/embed",
    "/embral/v1/rerank",
    "/embral/v1/classify",
    "/embral/v1/similarity",
    "/embral/v1/tokenize",
    "/embral/v1/stream",
    "/embed",
    "/embed_all",
    "/embed_sparse",
    "/rerank",
    "/predict",
    "/similarity",
    "/tokenize",
    "/decode",
    "/",
    "/vertex",
    "/invocations",
    "/api/embed",
    "/api/embeddings",
    "/api/show",
    "/api/pull",
    "/api/delete",
    "/v1/embed",
    "/v2/embed",
    "/v1/rerank",
    "/v2/rerank",
    "/v1/tokenize",
    "/v1/detokenize",
    "/score",
    "/api/tags",
    "/v1/models/a",
    "/page/a",
];

thread_local! {
    static SERVER: OnceCell<Offline> = const { OnceCell::new() };
}

fn server() -> Offline {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/engine/tests/golden/tiny_bert");
    let model = if std::path::Path::new(model).is_dir() {
        model
    } else {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/golden/tiny_bert")
    };
    let models = vec![ModelEntry { name: model.to_owned(), ..ModelEntry::default() }];
    let limits = Settings { max_inputs: Some(64), body_limit: Some("64KiB".to_owned()), ..Settings::default() };
    Offline::new(Settings { models, lazy: Some(true), offline: Some(true), threads: Some(1), ..limits })
        .expect("it starts")
}

pub(crate) fn case(bytes: &[u8]) {
    let Some((&which, body)) = bytes.split_first() else { return };
    let path = PATHS[usize::from(which) % PATHS.len()];
    let method = match path {
        "/api/delete" => "DELETE",
        "/api/tags" | "/v1/models/a" | "/page/a" => "GET",
        _ => "POST",
    };
    SERVER.with(|server| {
        let server = server.get_or_init(self::server);
        let (status, answer) = server.ask(method, path, body.to_vec()).expect("an answer");
        let text = String::from_utf8_lossy(&answer);
        // 501 and 503 say that the model does not do this, and that it cannot be opened. 424 is TEI's word for a model that failed and for
        // one that does not do this, which names what it does.
        let failed = status >= 500 && ![501, 503].contains(&status) || status == 424 && !text.contains("tiny_bert");
        assert!(!failed, "{path}: {status} {text}");
        assert!(
            !text.contains("NaN") && !text.contains("Infinity") || String::from_utf8_lossy(body).contains('N'),
            "{path}"
        );
        if status == 200 && text.contains("\"embedding\":[") {
            assert!(!text.contains("null,") || !text.contains("[null"), "{path}: {text}");
        }
    });
}
