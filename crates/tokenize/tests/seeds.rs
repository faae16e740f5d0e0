//! The seeds of the fuzz targets through the same checks, without a fuzzer.

#[path = "../../../fuzz/cases/seeds.rs"]
mod seeds;
#[path = "../../../fuzz/cases/tokenizer_json.rs"]
mod tokenizer_json;
#[path = "../../../fuzz/cases/tokenizer_vocab.rs"]
mod tokenizer_vocab;

#[test]
fn tokenizer_files() {
    seeds::run("tokenizer_json", tokenizer_json::case);
}

#[test]
fn vocabularies() {
    seeds::run("tokenizer_vocab", tokenizer_vocab::case);
}
