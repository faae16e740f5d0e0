//! The seeds of the fuzz targets through the same checks, without a fuzzer.
#![cfg(all(feature = "import", feature = "remote"))]

#[path = "../../../fuzz/cases/answer.rs"]
mod answer;
#[path = "../../../fuzz/cases/archive.rs"]
mod archive;
#[path = "../../../fuzz/cases/reference.rs"]
mod reference;
#[path = "../../../fuzz/cases/seeds.rs"]
mod seeds;

#[test]
fn archives() {
    seeds::run("archive", archive::case);
}

#[test]
fn answers() {
    seeds::run("answer", answer::case);
}

#[test]
fn references() {
    seeds::run("reference", reference::case);
}
