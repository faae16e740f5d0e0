//! The seeds of the fuzz targets through the same checks, without a fuzzer.

#[path = "../../../fuzz/cases/gguf.rs"]
mod gguf;
#[path = "../../../fuzz/cases/npy.rs"]
mod npy;
#[path = "../../../fuzz/cases/packed.rs"]
mod packed;
#[path = "../../../fuzz/cases/safetensors.rs"]
mod safetensors;
#[path = "../../../fuzz/cases/seeds.rs"]
mod seeds;
#[path = "../../../fuzz/cases/shard_index.rs"]
mod shard_index;
#[path = "../../../fuzz/cases/torch.rs"]
mod torch;

#[test]
fn gguf_files() {
    seeds::run("gguf", gguf::case);
}

#[test]
fn npy_files() {
    seeds::run("npy", npy::case);
}

#[test]
fn packed_weights() {
    seeds::run("packed", packed::case);
}

#[test]
fn safetensors_files() {
    seeds::run("safetensors", safetensors::case);
}

#[test]
fn shard_indices() {
    seeds::run("shard_index", shard_index::case);
}

#[test]
fn torch_files() {
    seeds::run("torch", torch::case);
}
