//! The seeds of the fuzz targets through the same checks, without a fuzzer.

#[path = "../../../fuzz/cases/request.rs"]
mod request;
#[path = "../../../fuzz/cases/seeds.rs"]
mod seeds;

#[test]
fn requests() {
    seeds::run("request", request::case);
}
