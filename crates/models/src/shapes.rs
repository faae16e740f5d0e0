//! What a checkpoint must hold for a [`Blueprint`], and whether it does.

use crate::{Blueprint, NormPlace, PositionBias, Positions, QkNorm, Role, WeightNames};
use embral_formats::Weights;
use embral_types::{Dtype, Error, ErrorKind, Result};
use std::collections::BTreeSet;

/// One part of the network with the shapes of its weight and its bias.
pub(crate) struct Part {
    pub(crate) role: Role,
    pub(crate) layer: usize,
    pub(crate) weight: Vec<usize>,
    pub(crate) bias: Option<usize>,
}

impl Blueprint {
    /// Every tensor of the network, layer by layer.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let (hidden, a, mlp) = (self.hidden, &self.attention, &self.mlp);
        let norm_bias = |width| self.norm.bias.then_some(width);
        let mut parts = Vec::new();
        let mut add = |role, layer, weight: &[usize], bias| {
            parts.push(Part { role, layer, weight: weight.to_vec(), bias });
        };
        add(Role::Word, 0, &[self.vocab, hidden], None);
        if let Positions::Learned { rows, .. } = self.embedding.positions {
            add(Role::Position, 0, &[rows, hidden], None);
        }
        if self.embedding.token_types > 0 {
            add(Role::TokenType, 0, &[self.embedding.token_types, hidden], None);
        }
        if self.embedding.norm {
            add(Role::EmbeddingNorm, 0, &[hidden], norm_bias(hidden));
        }
        let mut relative = None;
        match a.bias {
            Some(PositionBias::Learned { buckets, .. }) => add(Role::DistanceBias, 0, &[buckets, a.heads], None),
            Some(PositionBias::Disentangled(spec)) => {
                add(Role::Distances, 0, &[2 * spec.span, hidden], None);
                if spec.norm {
                    add(Role::DistancesNorm, 0, &[hidden], norm_bias(hidden));
                }
                relative = Some(spec).filter(|spec| !spec.shared);
            }
            Some(PositionBias::Alibi) | None => {}
        }
        let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        for layer in 0..self.layers {
            for (role, width) in [(Role::Query, q), (Role::Key, kv), (Role::Value, kv)] {
                add(role, layer, &[width, hidden], a.qkv_bias.then_some(width));
            }
            if let Some(spec) = relative {
                for (role, used) in [(Role::DistanceKey, spec.query), (Role::DistanceQuery, spec.key)] {
                    if used {
                        add(role, layer, &[q, hidden], Some(q));
                    }
                }
            }
            if let Some(over) = a.qk_norm {
                for (role, all) in [(Role::QueryNorm, q), (Role::KeyNorm, kv)] {
                    let width = if over == QkNorm::Head { a.head_dim } else { all };
                    add(role, layer, &[width], norm_bias(width));
                }
            }
            add(Role::AttentionOut, layer, &[hidden, q], a.out_bias.then_some(hidden));
            if self.has_attention_norm(layer) {
                add(Role::AttentionNorm, layer, &[hidden], norm_bias(hidden));
            }
            if let Some(experts) = mlp.experts_of(layer) {
                add(Role::Router, layer, &[experts.count, hidden], None);
                add(Role::ExpertsUp, layer, &[experts.count * mlp.width, hidden], None);
                let (rows, columns) = if experts.down_by_output { (hidden, mlp.width) } else { (mlp.width, hidden) };
                add(Role::ExpertsDown, layer, &[experts.count * rows, columns], None);
                if experts.bias {
                    add(Role::ExpertsBias, layer, &[hidden], None);
                }
            } else {
                if mlp.gated {
                    add(Role::Gate, layer, &[mlp.width, hidden], mlp.up_bias.then_some(mlp.width));
                }
                add(Role::Up, layer, &[mlp.width, hidden], mlp.up_bias.then_some(mlp.width));
                add(Role::Down, layer, &[hidden, mlp.width], mlp.down_bias.then_some(hidden));
            }
            add(Role::MlpNorm, layer, &[hidden], norm_bias(hidden));
            if matches!(self.norm_place, NormPlace::Both | NormPlace::PostTwice) {
                add(Role::AttentionOutNorm, layer, &[hidden], norm_bias(hidden));
            }
            if self.norm_place == NormPlace::Both {
                add(Role::MlpOutNorm, layer, &[hidden], norm_bias(hidden));
            }
        }
        if self.final_norm {
            add(Role::FinalNorm, 0, &[hidden], norm_bias(hidden));
        }
        parts
    }

    /// Whether the attention of a block has the norm that stands before or after it.
    pub fn has_attention_norm(&self, layer: usize) -> bool {
        layer > 0 || self.first_norm
    }

    /// The number of weights.
    pub fn parameters(&self) -> u64 {
        let size = |part: &Part| part.weight.iter().map(|&d| d as u64).product::<u64>() + part.bias.unwrap_or(0) as u64;
        self.parts().iter().map(size).sum()
    }
}

/// Refuses a checkpoint that lacks a tensor of the network, holds one in another shape or in a format that is no float, or holds
/// one that the network does not have. Heads are no disagreement, such as `pooler`, `cls`, `lm_head` and `classifier`; nor are the
/// constants `position_ids` and `inv_freq`.
///
/// The error is about the first disagreement and counts the others.
pub fn check_shapes(blueprint: &Blueprint, names: &WeightNames, weights: &dyn Weights) -> Result<()> {
    let mut used = BTreeSet::new();
    let mut disagreements: Vec<Error> = Vec::new();
    let mut expect = |name: String, shape: &[usize]| {
        let checked = names.find(weights, &name).and_then(|full| {
            let checked = check(weights, &full, shape);
            used.insert(full);
            checked
        });
        disagreements.extend(checked.err());
    };
    for part in blueprint.parts() {
        let blocks = names.blocks_of(part.role);
        let mut shape = part.weight;
        shape[0] *= blocks;
        expect(names.weight(part.role, part.layer), &shape);
        if let Some(width) = part.bias {
            expect(names.bias(part.role, part.layer), &[width * blocks]);
        }
    }
    for name in weights.names() {
        if !used.contains(&name) && !is_harmless(&name, names) {
            let message = "expected only tensors that config.json speaks of, found this one besides";
            disagreements.push(Error::new(ErrorKind::Mismatch, message).in_file(weights.file()).in_tensor(name));
        }
    }
    let others = disagreements.len().saturating_sub(1);
    match disagreements.into_iter().next() {
        None => Ok(()),
        Some(first) if others == 0 => Err(first),
        Some(first) => Err(first.hint(format!(
            "{others} more {} with config.json: the two files are not of one model",
            if others == 1 { "tensor disagrees" } else { "tensors disagree" }
        ))),
    }
}

fn check(weights: &dyn Weights, name: &str, shape: &[usize]) -> Result<()> {
    let tensor = weights.get(name)?;
    let wrong = |message: String| Err(Error::new(ErrorKind::Mismatch, message).in_file(weights.file()).in_tensor(name));
    if tensor.shape() != shape {
        return wrong(format!("expected the shape {shape:?}, found {:?}", tensor.shape()));
    }
    match tensor.dtype() {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16 => Ok(()),
        other => wrong(format!("expected F32, F16, Bf16 or F64, found {other}")),
    }
}

/// Heads of pre-training and of other tasks, as BERT, RoBERTa, DistilBERT, ModernBERT, DeBERTa and Qwen3 call them; those that are used are
/// looked for by who uses them.
const HEADS: [&str; 11] = [
    "pooler.",
    "cls.",
    "lm_head.",
    "classifier.",
    "pre_classifier.",
    "score.",
    "vocab_",
    "head.",
    "decoder.",
    "lm_predictions.",
    "mask_predictions.",
];

fn is_harmless(name: &str, names: &WeightNames) -> bool {
    let bare = |prefix: &&str| name.strip_prefix(prefix);
    name == "linear.weight"
        || name.ends_with("position_ids")
        || name.ends_with("rotary_emb.inv_freq")
        || names.prefixes().iter().filter_map(bare).any(|name| HEADS.iter().any(|head| name.starts_with(head)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_config;
    use embral_types::Tensor;
    use std::{collections::BTreeMap, path::Path};

    struct InMemory(BTreeMap<String, Tensor<'static>>);

    impl Weights for InMemory {
        fn get(&self, name: &str) -> Result<Tensor<'_>> {
            Ok(self.0[name].clone())
        }

        fn contains(&self, name: &str) -> bool {
            self.0.contains_key(name)
        }

        fn names(&self) -> Vec<String> {
            self.0.keys().cloned().collect()
        }

        fn file(&self) -> &Path {
            Path::new("m.safetensors")
        }
    }

    fn zeros(dtype: Dtype, shape: &[usize]) -> Tensor<'static> {
        Tensor::new(dtype, shape.to_vec(), vec![0; shape.iter().product::<usize>() * dtype.size()])
    }

    /// A two-layer BERT and a checkpoint of it, every name after `prefix`.
    fn tiny(prefix: &str) -> (Blueprint, WeightNames, InMemory) {
        let json = br#"{"model_type": "bert", "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 8, "vocab_size": 10, "max_position_embeddings": 6}"#;
        let (_, blueprint, names) = parse_config(json).unwrap();
        let mut tensors = BTreeMap::new();
        for part in blueprint.parts() {
            let name = names.weight(part.role, part.layer);
            tensors.insert(format!("{prefix}{name}"), zeros(Dtype::F32, &part.weight));
            if let Some(width) = part.bias {
                let name = names.bias(part.role, part.layer);
                tensors.insert(format!("{prefix}{name}"), zeros(Dtype::F16, &[width]));
            }
        }
        (blueprint, names, InMemory(tensors))
    }

    #[test]
    fn a_checkpoint_of_the_model_passes_under_each_prefix_and_spelling() {
        for prefix in ["", "bert."] {
            let (blueprint, names, mut weights) = tiny(prefix);
            check_shapes(&blueprint, &names, &weights).unwrap();
            assert_eq!(names.weight_in(&weights, Role::Down, 1).unwrap().shape(), [4, 8]);
            for name in weights.names() {
                if let Some((stem, part)) = name.rsplit_once("LayerNorm.") {
                    let old = format!("{stem}LayerNorm.{}", if part == "weight" { "gamma" } else { "beta" });
                    let tensor = weights.0.remove(&name).unwrap();
                    weights.0.insert(old, tensor);
                }
            }
            weights.0.insert(format!("{prefix}pooler.dense.weight"), zeros(Dtype::F32, &[4, 4]));
            weights.0.insert(format!("{prefix}embeddings.position_ids"), zeros(Dtype::I64, &[1, 6]));
            weights.0.insert("cls.predictions.bias".into(), zeros(Dtype::F32, &[10]));
            check_shapes(&blueprint, &names, &weights).unwrap();
            assert_eq!(names.bias_in(&weights, Role::MlpNorm, 1).unwrap().shape(), [4]);
        }
    }

    #[test]
    fn each_disagreement_names_file_tensor_expected_and_found() {
        let refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor<'static>>)| {
            let (blueprint, names, mut weights) = tiny("");
            change(&mut weights.0);
            let e = check_shapes(&blueprint, &names, &weights).unwrap_err();
            assert_eq!((e.kind(), e.file()), (ErrorKind::Mismatch, Some(Path::new("m.safetensors"))));
            e.to_string()
        };
        let query = "encoder.layer.1.attention.self.query.weight";
        let e = refused(&|t| drop(t.insert(query.into(), zeros(Dtype::F32, &[4, 5]))));
        assert_eq!(e, format!("m.safetensors: tensor {query}: expected the shape [4, 4], found [4, 5]"));
        let e = refused(&|t| drop(t.remove(query)));
        assert!(e.contains(query) && e.contains("missing") && e.contains("\"bert.\""), "{e}");
        let e = refused(&|t| drop(t.insert(query.into(), zeros(Dtype::I8, &[4, 4]))));
        assert!(e.contains("found I8"), "{e}");
        let e = refused(&|t| drop(t.insert("encoder.layer.2.output.dense.bias".into(), zeros(Dtype::F32, &[4]))));
        assert!(e.contains("encoder.layer.2.output.dense.bias: expected only tensors"), "{e}");
        let e = refused(&|t| t.retain(|name, _| !name.starts_with("encoder.layer.1.attention.self")));
        assert!(e.contains("(5 more tensors disagree"), "{e}");
    }
}
