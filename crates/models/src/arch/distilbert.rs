//! DistilBERT: BERT without token types, under other names.

use crate::{
    AttentionSpec, Blueprint, EmbeddingSpec, MlpSpec, NormPlace, NormSpec, Positions, Role, View, WeightNames,
    config::{Config, limit},
};
use embral_types::{Activation, Mask, NormKind, Result};
use serde_json::Value;

const NAMES: WeightNames = WeightNames {
    prefixes: &["", "distilbert."],
    templates: &[
        (Role::Word, "embeddings.word_embeddings"),
        (Role::Position, "embeddings.position_embeddings"),
        (Role::EmbeddingNorm, "embeddings.LayerNorm"),
        (Role::Query, "transformer.layer.{}.attention.q_lin"),
        (Role::Key, "transformer.layer.{}.attention.k_lin"),
        (Role::Value, "transformer.layer.{}.attention.v_lin"),
        (Role::AttentionOut, "transformer.layer.{}.attention.out_lin"),
        (Role::AttentionNorm, "transformer.layer.{}.sa_layer_norm"),
        (Role::Up, "transformer.layer.{}.ffn.lin1"),
        (Role::Down, "transformer.layer.{}.ffn.lin2"),
        (Role::MlpNorm, "transformer.layer.{}.output_layer_norm"),
    ],
    blocks: &[],
    whole: &[],
};

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    let hidden = config.number("dim", limit::WIDTH)?;
    let layers = config.number("n_layers", limit::LAYERS)?;
    let (heads, head_dim) = config.heads("n_heads", hidden)?;
    let positions = config.number_or("max_position_embeddings", 512, limit::POSITIONS)?;
    let blueprint = Blueprint {
        vocab: config.number("vocab_size", limit::VOCAB)?,
        hidden,
        layers,
        embedding: EmbeddingSpec {
            positions: Positions::Learned { rows: positions, offset: 0, padding: None },
            token_types: 0,
            norm: true,
            scale: 1.0,
        },
        attention: AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim,
            scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            views: vec![View { mask: Mask::Full, rope: None }; layers],
            qkv_bias: true,
            out_bias: true,
            qk_norm: None,
            bias: None,
        },
        mlp: MlpSpec {
            width: config.number("hidden_dim", limit::MLP)?,
            gated: false,
            activation: config.activation("activation", Activation::GeluErf)?,
            up_bias: true,
            down_bias: true,
            experts: None,
        },
        // Not in the configuration.
        norm: NormSpec { kind: NormKind::Layer, eps: 1e-12, bias: true, less_one: false },
        norm_place: NormPlace::Post,
        first_norm: true,
        final_norm: false,
        max_positions: positions,
    };
    Ok((blueprint, NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn distilbert_base_has_its_known_number_of_parameters() {
        let config = json!({"model_type": "distilbert", "activation": "gelu", "dim": 768, "hidden_dim": 3072, "n_heads": 12,
            "n_layers": 6, "vocab_size": 30522, "max_position_embeddings": 512, "sinusoidal_pos_embds": false});
        let (blueprint, names) = parse(&config).unwrap();
        assert_eq!(blueprint.parameters(), 66_362_880);
        assert_eq!(names.bias(Role::MlpNorm, 5), "transformer.layer.5.output_layer_norm.bias");
        let mut config = config;
        config["n_heads"] = json!(7);
        assert!(parse(&config).unwrap_err().message().starts_with("n_heads: "));
    }
}
