//! Writing the model folder: the layout of model2vec, which sentence-transformers reads too.

use super::table::Quantised;
use embral_types::{Dtype, Error, Result, Tensor};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Bytes a row takes: `width` components and an f32 weight.
fn row_bytes(width: usize) -> usize {
    width + 4
}

/// The length word, and a JSON header of two tensors padded to 8 bytes.
const HEADER_BYTES: usize = 8 + 192;

/// The most rows of `width` components that a weight file of `bytes` holds.
pub(crate) fn rows_within(bytes: usize, width: usize) -> usize {
    bytes.saturating_sub(HEADER_BYTES) / row_bytes(width)
}

/// Writes the files of the model; returns the bytes of the weights.
pub(crate) fn write(folder: &Path, table: &Quantised, width: usize, tokenizer: &[u8], teacher: &str) -> Result<usize> {
    fs::create_dir_all(folder).map_err(|e| Error::io("cannot create", folder, e))?;
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|e| Error::io("cannot write", path, e))
    };
    let rows: Vec<u8> = table.rows.iter().map(|&v| v as u8).collect();
    let weights: Vec<u8> = table.weights.iter().flat_map(|v| v.to_le_bytes()).collect();
    let count = table.weights.len();
    let path = folder.join("model.safetensors");
    let tensors = [
        ("embeddings", Tensor::new(Dtype::I8, vec![count, width], rows)),
        ("weights", Tensor::new(Dtype::F32, vec![count], weights)),
    ];
    embral_formats::safetensors::write(&path, &tensors)?;
    put("tokenizer.json", tokenizer)?;
    put("config.json", &pretty(&config(teacher, width)))?;
    put("modules.json", &pretty(&modules()))?;
    let written = fs::metadata(&path).map_err(|e| Error::io("cannot read", &path, e))?;
    Ok(written.len() as usize)
}

fn config(teacher: &str, width: usize) -> Value {
    json!({
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": teacher,
        "hidden_dim": width,
        "seq_length": 1_000_000,
        "normalize": true,
    })
}

fn modules() -> Value {
    let module = |index: usize, path: &str, kind: &str| json!({"idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")});
    json!([module(0, ".", "StaticEmbedding"), module(1, "1_Normalize", "Normalize")])
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_bytes_is_kept_and_nearly_used() {
        for (bytes, width) in [(8_000_000, 256), (100_000, 32), (1000, 8)] {
            let rows = rows_within(bytes, width);
            let table = Quantised { rows: vec![1; rows * width], weights: vec![1.0; rows] };
            let folder = tempfile::tempdir().unwrap();
            let written = write(folder.path(), &table, width, b"{}", "t").unwrap();
            assert!(written <= bytes && written + 2 * row_bytes(width) + HEADER_BYTES > bytes, "{written} of {bytes}");
        }
        assert_eq!(rows_within(10, 8), 0);
    }
}
