//! Runs every example of the project.
#![cfg(feature = "default-model")]

#[path = "../../../examples/compact.rs"]
mod compact;
#[cfg(feature = "split")]
#[path = "../../../examples/documents.rs"]
mod documents;
#[path = "../../../examples/embed.rs"]
mod embed;
#[path = "../../../examples/search.rs"]
mod search;

#[test]
fn embed_runs() {
    embed::main().unwrap();
}

#[test]
fn search_runs() {
    search::main().unwrap();
}

#[test]
fn compact_runs() {
    compact::main().unwrap();
}

#[cfg(feature = "split")]
#[test]
fn documents_runs() {
    documents::main().unwrap();
}
