//! The seeds of the fuzz targets through the same checks, without a fuzzer.
#![cfg(feature = "import")]

#[path = "../../../fuzz/cases/archive.rs"]
mod archive;
#[path = "../../../fuzz/cases/seeds.rs"]
mod seeds;

#[test]
fn archives() {
    seeds::run("archive", archive::case);
}
