//! The encoder of Alibaba's GTE 1.5 ("new", and "gte" in transformers): BERT with rotary positions and a gated MLP.

use crate::{
    AttentionSpec, Blueprint, EmbeddingSpec, MlpSpec, NormPlace, NormSpec, Positions, Role, View, WeightNames,
    config::{Config, limit, malformed, unsupported},
    names::{Block, FUSED_QKV},
    rope,
};
use embral_types::{Activation, Mask, NormKind, Result};
use serde_json::Value;

const NAMES: WeightNames = WeightNames {
    prefixes: &["", "new."],
    templates: &[
        (Role::Word, "embeddings.word_embeddings"),
        (Role::TokenType, "embeddings.token_type_embeddings"),
        (Role::EmbeddingNorm, "embeddings.LayerNorm"),
        (Role::Query, "encoder.layer.{}.attention.qkv_proj"),
        (Role::Key, "encoder.layer.{}.attention.qkv_proj"),
        (Role::Value, "encoder.layer.{}.attention.qkv_proj"),
        (Role::AttentionOut, "encoder.layer.{}.attention.o_proj"),
        (Role::AttentionNorm, "encoder.layer.{}.attn_ln"),
        (Role::Up, "encoder.layer.{}.mlp.up_gate_proj"),
        (Role::Gate, "encoder.layer.{}.mlp.up_gate_proj"),
        (Role::Down, "encoder.layer.{}.mlp.down_proj"),
        (Role::MlpNorm, "encoder.layer.{}.mlp_ln"),
    ],
    blocks: &[
        FUSED_QKV[0],
        FUSED_QKV[1],
        FUSED_QKV[2],
        (Role::Up, Block { index: 0, count: 2 }),
        (Role::Gate, Block { index: 1, count: 2 }),
    ],
    whole: &[],
};

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    for (key, expected) in [("position_embedding_type", "rope"), ("layer_norm_type", "layer_norm")] {
        if let Some(found) = config.text(key)?.filter(|found| *found != expected) {
            return Err(unsupported(format!("{key}: expected {expected:?}, found {found:?}")));
        }
    }
    config.refuse_flag("logn_attention_scale", "attention scaled by the length of the text")?;
    if !config.flag_or("pack_qkv", true)? {
        return Err(unsupported("pack_qkv: expected query, key and value in one tensor"));
    }
    let hidden = config.number("hidden_size", limit::WIDTH)?;
    let layers = config.number("num_hidden_layers", limit::LAYERS)?;
    let (heads, head_dim) = config.heads("num_attention_heads", hidden)?;
    if !head_dim.is_multiple_of(2) {
        return Err(malformed(format!("num_attention_heads: expected heads of an even width, found {head_dim}")));
    }
    // The code beside the models and transformers differ in the base that goes without saying.
    let theta = if config.text("model_type")? == Some("gte") { 160_000.0 } else { 10_000.0 };
    let rope = rope::read(config, theta, head_dim)?;
    let blueprint = Blueprint {
        vocab: config.number("vocab_size", limit::VOCAB)?,
        hidden,
        layers,
        embedding: EmbeddingSpec {
            positions: Positions::None,
            token_types: config.number_or("type_vocab_size", 1, limit::TOKEN_TYPES)?,
            norm: true,
            scale: 1.0,
        },
        attention: AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim,
            scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            views: vec![View { mask: Mask::Full, rope: Some(rope) }; layers],
            qkv_bias: true,
            out_bias: true,
            qk_norm: None,
            bias: None,
        },
        mlp: MlpSpec {
            width: config.number("intermediate_size", limit::MLP)?,
            gated: true,
            activation: config.activation("hidden_act", Activation::GeluErf)?,
            up_bias: false,
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
        max_positions: config.number_or("max_position_embeddings", 8192, limit::POSITIONS)?,
    };
    Ok((blueprint, NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RopeScaling;
    use serde_json::json;

    #[test]
    fn gte_base_has_its_known_number_of_parameters() {
        let mut config = json!({"model_type": "new", "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
            "layer_norm_type": "layer_norm", "vocab_size": 30528, "type_vocab_size": 0, "pack_qkv": true,
            "position_embedding_type": "rope", "max_position_embeddings": 8192, "rope_theta": 500000,
            "rope_scaling": {"factor": 2.0, "type": "ntk"}, "logn_attention_scale": false});
        let (blueprint, _) = parse(&config).unwrap();
        assert_eq!(blueprint.parameters(), 136_776_192);
        assert_eq!(blueprint.attention.views[0].rope.unwrap().scaling, RopeScaling::Ntk { factor: 2.0 });
        for (key, value) in [
            ("pack_qkv", json!(false)),
            ("logn_attention_scale", json!(true)),
            ("layer_norm_type", json!("rms_norm")),
            ("position_embedding_type", json!("absolute")),
            ("num_attention_heads", json!(256)),
        ] {
            let old = std::mem::replace(&mut config[key], value);
            let e = parse(&config).unwrap_err();
            assert!(e.message().starts_with(&format!("{key}: ")), "{e}");
            config[key] = old;
        }
    }
}
