//! The page at `/`, and its files, which are inside the binary.

use crate::app::App;
use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;

/// A file: its name, its type, its bytes.
type File = (&'static str, &'static str, &'static [u8]);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($kind:ident $name:literal),* $(,)?) => {
        &[$(($name, $kind, include_bytes!(concat!("page/", $name)))),*]
    };
}

const FILES: &[File] = files![
    HTML "index.html",
    CSS "page.css",
    SCRIPT "api.js",
    SCRIPT "chart.js",
    SCRIPT "compare.js",
    SCRIPT "dom.js",
    SCRIPT "format.js",
    SCRIPT "job.js",
    SCRIPT "labels.js",
    SCRIPT "live.js",
    SCRIPT "map.js",
    SCRIPT "models.js",
    SCRIPT "page.js",
    SCRIPT "pca.js",
    SCRIPT "search.js",
    SCRIPT "settings.js",
    SCRIPT "tabs.js",
    SCRIPT "theme.js",
    SCRIPT "vector.js",
];

/// Scripts and styles of this server alone, and nothing inline.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/page/{name}", get(file))
}

/// What `GET /` shows: the page to a browser, and to other clients what Ollama says there, which its clients look for.
pub(crate) async fn root(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if app.settings.page && accept.contains("text/html") {
        return found("index.html");
    }
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "Ollama is running").into_response()
}

async fn file(State(app): State<Arc<App>>, name: Result<Path<String>, PathRejection>) -> Response {
    match name {
        Ok(Path(name)) if app.settings.page => found(&name),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A file by its name, which is looked up in the table above and nowhere else.
fn found(name: &str) -> Response {
    let Some((_, kind, bytes)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = Response::new((*bytes).into());
    let fixed = HeaderValue::from_static;
    for (name, value) in [
        (header::CONTENT_TYPE, fixed(kind)),
        (header::CONTENT_SECURITY_POLICY, fixed(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        // A new version of the binary has new files at the same paths.
        (header::CACHE_CONTROL, fixed("no-cache")),
    ] {
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_binary_and_what_it_names_is_there() {
        let mut there: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/page"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut names: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        there.sort();
        names.sort_unstable();
        assert_eq!(names, there);
        for (name, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            for part in text.split("from \"./").skip(1).chain(text.split("/page/").skip(1)) {
                let named = part.split(['"', '\'']).next().unwrap();
                assert!(names.contains(&named), "{name} names {named}");
            }
        }
    }
}
