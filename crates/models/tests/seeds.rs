//! The seeds of the fuzz targets through the same checks, without a fuzzer.

#[path = "../../../fuzz/cases/config.rs"]
mod config;
#[path = "../../../fuzz/cases/modules.rs"]
mod modules;
#[path = "../../../fuzz/cases/seeds.rs"]
mod seeds;

#[test]
fn configurations() {
    seeds::run("config", config::case);
}

#[test]
fn module_files() {
    seeds::run("modules", modules::case);
}
