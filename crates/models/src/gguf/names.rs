//! The tensor names of GGUF, and those of the checkpoints that the architecture files know.

use embral_formats::{Weights, gguf::GgufFile};
use embral_types::{Error, ErrorKind, Result, Tensor};
use std::{collections::BTreeMap, path::Path};

/// There, here.
pub(super) const BERT: &[(&str, &str)] = &[
    ("token_embd", "embeddings.word_embeddings"),
    ("position_embd", "embeddings.position_embeddings"),
    ("token_types", "embeddings.token_type_embeddings"),
    ("token_embd_norm", "embeddings.LayerNorm"),
    ("blk.{}.attn_q", "encoder.layer.{}.attention.self.query"),
    ("blk.{}.attn_k", "encoder.layer.{}.attention.self.key"),
    ("blk.{}.attn_v", "encoder.layer.{}.attention.self.value"),
    ("blk.{}.attn_output", "encoder.layer.{}.attention.output.dense"),
    ("blk.{}.attn_output_norm", "encoder.layer.{}.attention.output.LayerNorm"),
    ("blk.{}.ffn_up", "encoder.layer.{}.intermediate.dense"),
    ("blk.{}.ffn_down", "encoder.layer.{}.output.dense"),
    ("blk.{}.layer_output_norm", "encoder.layer.{}.output.LayerNorm"),
];

/// There, here.
pub(super) const NOMIC_BERT: &[(&str, &str)] = &[
    ("token_embd", "embeddings.word_embeddings"),
    ("token_types", "embeddings.token_type_embeddings"),
    ("token_embd_norm", "emb_ln"),
    ("blk.{}.attn_qkv", "encoder.layers.{}.attn.Wqkv"),
    ("blk.{}.attn_output", "encoder.layers.{}.attn.out_proj"),
    ("blk.{}.attn_output_norm", "encoder.layers.{}.norm1"),
    ("blk.{}.ffn_up", "encoder.layers.{}.mlp.fc11"),
    ("blk.{}.ffn_gate", "encoder.layers.{}.mlp.fc12"),
    ("blk.{}.ffn_down", "encoder.layers.{}.mlp.fc2"),
    ("blk.{}.layer_output_norm", "encoder.layers.{}.norm2"),
];

/// There, here. The names of all experts' layers are whole.
pub(super) const NOMIC_BERT_MOE: &[(&str, &str)] = &[
    ("token_embd", "embeddings.word_embeddings"),
    ("token_types", "embeddings.token_type_embeddings"),
    ("token_embd_norm", "emb_ln"),
    ("blk.{}.attn_qkv", "encoder.layers.{}.attn.Wqkv"),
    ("blk.{}.attn_output", "encoder.layers.{}.attn.out_proj"),
    ("blk.{}.attn_output_norm", "encoder.layers.{}.norm1"),
    ("blk.{}.ffn_up", "encoder.layers.{}.mlp.fc1"),
    ("blk.{}.ffn_down", "encoder.layers.{}.mlp.fc2"),
    ("blk.{}.ffn_gate_inp", "encoder.layers.{}.mlp.router.layer"),
    ("blk.{}.ffn_up_exps.weight", "encoder.layers.{}.mlp.experts.mlp.w1"),
    ("blk.{}.ffn_down_exps.weight", "encoder.layers.{}.mlp.experts.mlp.w2"),
    ("blk.{}.layer_output_norm", "encoder.layers.{}.norm2"),
];

/// There, here.
pub(super) const QWEN3: &[(&str, &str)] = &[
    ("token_embd", "embed_tokens"),
    ("blk.{}.attn_norm", "layers.{}.input_layernorm"),
    ("blk.{}.attn_q", "layers.{}.self_attn.q_proj"),
    ("blk.{}.attn_k", "layers.{}.self_attn.k_proj"),
    ("blk.{}.attn_v", "layers.{}.self_attn.v_proj"),
    ("blk.{}.attn_q_norm", "layers.{}.self_attn.q_norm"),
    ("blk.{}.attn_k_norm", "layers.{}.self_attn.k_norm"),
    ("blk.{}.attn_output", "layers.{}.self_attn.o_proj"),
    ("blk.{}.ffn_norm", "layers.{}.post_attention_layernorm"),
    ("blk.{}.ffn_gate", "layers.{}.mlp.gate_proj"),
    ("blk.{}.ffn_up", "layers.{}.mlp.up_proj"),
    ("blk.{}.ffn_down", "layers.{}.mlp.down_proj"),
    ("output_norm", "norm"),
    // The head of a language model, which an embedding has no use for.
    ("output", "lm_head"),
];

/// A file whose tensors have other names.
pub(super) struct Renamed {
    file: GgufFile,
    /// The name in the file of each name here.
    names: BTreeMap<String, String>,
}

impl Renamed {
    /// A tensor that the table does not have keeps its name.
    pub(super) fn new(file: GgufFile, table: &[(&str, &str)]) -> Self {
        let names =
            file.names().into_iter().map(|name| (rename(&name, table).unwrap_or_else(|| name.clone()), name)).collect();
        Self { file, names }
    }
}

/// `blk.3.attn_q.weight` by `blk.{}.attn_q`.
fn rename(name: &str, table: &[(&str, &str)]) -> Option<String> {
    let (stem, part) = name.rsplit_once('.')?;
    let mut pieces = stem.splitn(3, '.');
    let layer = match (pieces.next(), pieces.next()) {
        (Some("blk"), Some(layer)) => layer,
        _ => "",
    };
    let template = if layer.is_empty() { stem.to_owned() } else { stem.replacen(layer, "{}", 1) };
    let of = |name: &str| {
        let (_, here) = table.iter().find(|(there, _)| *there == name)?;
        Some(here.replace("{}", layer))
    };
    of(&format!("{template}.{part}")).or_else(|| Some(format!("{}.{part}", of(&template)?)))
}

impl Weights for Renamed {
    fn get(&self, name: &str) -> Result<Tensor<'_>> {
        match self.names.get(name) {
            Some(stored) => {
                let tensor = self.file.get(stored)?;
                // Experts lie one behind another, `[count, rows, columns]`.
                Ok(if tensor.shape().len() == 3 { tensor.flatten_outer() } else { tensor })
            }
            None => {
                Err(Error::new(ErrorKind::Mismatch, "the tensor is missing").in_file(self.file.file()).in_tensor(name))
            }
        }
    }

    fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    fn size(&self, name: &str) -> Result<(usize, usize)> {
        self.file.size(self.names.get(name).map_or(name, String::as_str))
    }

    fn stored(&self, name: &str) -> Result<Tensor<'_>> {
        self.file.stored(self.names.get(name).map_or(name, String::as_str))
    }

    fn file(&self) -> &Path {
        self.file.file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_keep_their_number() {
        let of = |name, table| rename(name, table);
        assert_eq!(of("blk.10.attn_q.bias", BERT).as_deref(), Some("encoder.layer.10.attention.self.query.bias"));
        assert_eq!(of("token_embd.weight", QWEN3).as_deref(), Some("embed_tokens.weight"));
        assert_eq!(of("blk.1.attn_q_norm.weight", QWEN3).as_deref(), Some("layers.1.self_attn.q_norm.weight"));
        let whole = of("blk.1.ffn_down_exps.weight", NOMIC_BERT_MOE);
        assert_eq!(whole.as_deref(), Some("encoder.layers.1.mlp.experts.mlp.w2"));
        assert_eq!(of("rope_freqs.weight", QWEN3), None);
        assert_eq!(of("blk", QWEN3), None);
    }
}
