//! BERT: learned positions, token types, norm after each part, full attention, plain MLP, biases everywhere.

use crate::{
    AttentionSpec, Blueprint, EmbeddingSpec, MlpSpec, NormPlace, NormSpec, Positions, Role, View, WeightNames,
    config::{Config, limit, unsupported},
};
use embral_types::{Activation, Mask, NormKind, Result};
use serde_json::Value;

pub(super) const NAMES: WeightNames = WeightNames {
    prefixes: &["", "bert."],
    templates: &[
        (Role::Word, "embeddings.word_embeddings"),
        (Role::Position, "embeddings.position_embeddings"),
        (Role::TokenType, "embeddings.token_type_embeddings"),
        (Role::EmbeddingNorm, "embeddings.LayerNorm"),
        (Role::Query, "encoder.layer.{}.attention.self.query"),
        (Role::Key, "encoder.layer.{}.attention.self.key"),
        (Role::Value, "encoder.layer.{}.attention.self.value"),
        (Role::AttentionOut, "encoder.layer.{}.attention.output.dense"),
        (Role::AttentionNorm, "encoder.layer.{}.attention.output.LayerNorm"),
        (Role::Up, "encoder.layer.{}.intermediate.dense"),
        (Role::Down, "encoder.layer.{}.output.dense"),
        (Role::MlpNorm, "encoder.layer.{}.output.LayerNorm"),
    ],
    blocks: &[],
    whole: &[],
};

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    Ok((blueprint(Config::of(config)?, 0)?, NAMES))
}

/// The blueprint of BERT and those like it; the first token has row `first_position` of the table of positions.
pub(super) fn blueprint(config: Config<'_>, first_position: usize) -> Result<Blueprint> {
    if let Some(kind) = config.text("position_embedding_type")?.filter(|kind| *kind != "absolute") {
        return Err(unsupported(format!("position_embedding_type: expected \"absolute\", found {kind:?}")));
    }
    without_position_kind(config, first_position)
}

/// As [`blueprint`], for those whose positions are of another kind.
pub(super) fn without_position_kind(config: Config<'_>, first_position: usize) -> Result<Blueprint> {
    config.refuse_flag("is_decoder", "BERT as a decoder")?;
    let hidden = config.number("hidden_size", limit::WIDTH)?;
    let (heads, head_dim) = config.heads("num_attention_heads", hidden)?;
    let layers = config.number("num_hidden_layers", limit::LAYERS)?;
    let positions = config.number_or("max_position_embeddings", 512, first_position + 1..=*limit::POSITIONS.end())?;
    Ok(Blueprint {
        vocab: config.number("vocab_size", limit::VOCAB)?,
        hidden,
        layers,
        embedding: EmbeddingSpec {
            positions: Positions::Learned {
                rows: positions,
                offset: first_position,
                // The padding token is before the first position, in the families that have one there.
                padding: first_position.checked_sub(1).map(|id| id as u32),
            },
            token_types: config.number_or("type_vocab_size", 2, limit::TOKEN_TYPES)?,
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
            width: config.number("intermediate_size", limit::MLP)?,
            gated: false,
            activation: config.activation("hidden_act", Activation::GeluErf)?,
            up_bias: true,
            down_bias: true,
            experts: None,
        },
        norm: NormSpec {
            kind: NormKind::Layer,
            eps: config.positive_or("layer_norm_eps", 1e-12)?,
            bias: true,
            less_one: false,
        },
        norm_place: NormPlace::Post,
        first_norm: true,
        final_norm: false,
        max_positions: positions - first_position,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Value {
        json!({"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
               "intermediate_size": 1536, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "vocab_size": 30522,
               "max_position_embeddings": 512, "type_vocab_size": 2, "position_embedding_type": "absolute"})
    }

    fn with(key: &str, value: Value) -> Result<(Blueprint, WeightNames)> {
        let mut config = config();
        config[key] = value;
        parse(&config)
    }

    #[test]
    fn minilm_has_its_known_number_of_parameters() {
        let (blueprint, names) = parse(&config()).unwrap();
        // 22,713,216 with the pooler, which has 384 * 384 + 384.
        assert_eq!(blueprint.parameters(), 22_713_216 - 147_840);
        assert_eq!(blueprint.attention.scale, 32f32.sqrt().recip());
        assert_eq!(names.weight(Role::Query, 3), "encoder.layer.3.attention.self.query.weight");
        assert_eq!(names.bias(Role::EmbeddingNorm, 0), "embeddings.LayerNorm.bias");
    }

    #[test]
    fn each_activation_is_its_own() {
        for (name, activation) in [
            ("gelu", Activation::GeluErf),
            ("gelu_new", Activation::GeluTanh),
            ("gelu_pytorch_tanh", Activation::GeluTanh),
            ("relu", Activation::Relu),
            ("silu", Activation::Silu),
        ] {
            assert_eq!(with("hidden_act", json!(name)).unwrap().0.mlp.activation, activation);
        }
        assert!(with("hidden_act", json!("mish")).unwrap_err().message().contains("found \"mish\""));
    }

    #[test]
    fn absurd_and_foreign_configurations_are_refused_by_key() {
        for (key, value, expected) in [
            ("hidden_size", json!(0), "from 1 to 65536, found 0"),
            ("hidden_size", json!(1u64 << 40), "from 1 to 65536, found 1099511627776"),
            ("num_hidden_layers", json!(100_000), "from 1 to 1000, found 100000"),
            ("num_attention_heads", json!(7), "divisor of hidden_size 384, found 7"),
            ("num_attention_heads", json!(0), "from 1 to 384, found 0"),
            ("vocab_size", json!(10_000_001), "from 1 to 10000000"),
            ("intermediate_size", json!(u64::MAX), "found 18446744073709551615"),
            ("max_position_embeddings", json!(-5), "found -5"),
            ("layer_norm_eps", json!(0), "expected a positive number, found 0"),
            ("position_embedding_type", json!("relative_key"), "expected \"absolute\", found \"relative_key\""),
            ("is_decoder", json!(true), "is not done"),
            ("vocab_size", Value::Null, "the number is missing"),
        ] {
            let e = with(key, value).unwrap_err();
            assert!(e.message().starts_with(&format!("{key}: ")) && e.message().contains(expected), "{e}");
        }
    }
}
