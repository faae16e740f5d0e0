//! Qwen3: rotary positions, RMS norm before each part and of each q and k head, grouped keys, causal mask, gated MLP.

use crate::{
    AttentionSpec, Blueprint, EmbeddingSpec, MlpSpec, NormPlace, NormSpec, Positions, Role, RopeSpec, WeightNames,
    config::{Config, limit, malformed, unsupported},
};
use embral_types::{Activation, Mask, NormKind, Result};
use serde_json::Value;

const NAMES: WeightNames = WeightNames {
    prefixes: &["", "model."],
    templates: &[
        (Role::Word, "embed_tokens"),
        (Role::AttentionNorm, "layers.{}.input_layernorm"),
        (Role::Query, "layers.{}.self_attn.q_proj"),
        (Role::Key, "layers.{}.self_attn.k_proj"),
        (Role::Value, "layers.{}.self_attn.v_proj"),
        (Role::QueryNorm, "layers.{}.self_attn.q_norm"),
        (Role::KeyNorm, "layers.{}.self_attn.k_norm"),
        (Role::AttentionOut, "layers.{}.self_attn.o_proj"),
        (Role::MlpNorm, "layers.{}.post_attention_layernorm"),
        (Role::Gate, "layers.{}.mlp.gate_proj"),
        (Role::Up, "layers.{}.mlp.up_proj"),
        (Role::Down, "layers.{}.mlp.down_proj"),
        (Role::FinalNorm, "norm"),
    ],
};

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    refuse_windows(config)?;
    config.refuse_flag("use_bidirectional_attention", "attention without the causal mask")?;
    if !config.flag_or("is_causal", true)? {
        return Err(unsupported("is_causal: attention without the causal mask is not done by this version"));
    }
    let heads = config.number("num_attention_heads", limit::WIDTH)?;
    let kv_heads = config.number_or("num_key_value_heads", heads, 1..=heads)?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(malformed(format!(
            "num_key_value_heads: expected a divisor of num_attention_heads {heads}, found {kv_heads}"
        )));
    }
    let head_dim = config.number_or("head_dim", 128, 2..=1_024)?;
    if !head_dim.is_multiple_of(2) {
        return Err(malformed(format!("head_dim: expected an even number, found {head_dim}")));
    }
    if heads * head_dim > *limit::MLP.end() {
        let product = heads * head_dim;
        return Err(malformed(format!(
            "num_attention_heads: expected at most {} components in all heads, found {product}",
            limit::MLP.end()
        )));
    }
    let bias = config.flag_or("attention_bias", false)?;
    let blueprint = Blueprint {
        vocab: config.number("vocab_size", limit::VOCAB)?,
        hidden: config.number("hidden_size", limit::WIDTH)?,
        layers: config.number("num_hidden_layers", limit::LAYERS)?,
        embedding: EmbeddingSpec { positions: Positions::None, token_types: 0, norm: false, scale: 1.0 },
        attention: AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            mask: Mask::Causal,
            qkv_bias: bias,
            out_bias: bias,
            rope: Some(RopeSpec { theta: theta(config)?, rotary_dims: head_dim, interleaved: false }),
            qk_norm: true,
        },
        mlp: MlpSpec {
            width: config.number("intermediate_size", limit::MLP)?,
            gated: true,
            activation: config.activation("hidden_act", Activation::Silu)?,
            bias: false,
        },
        norm: NormSpec { kind: NormKind::Rms, eps: config.positive_or("rms_norm_eps", 1e-6)?, bias: false },
        norm_place: NormPlace::Pre,
        final_norm: true,
        max_positions: config.number_or("max_position_embeddings", 32_768, limit::POSITIONS)?,
    };
    Ok((blueprint, NAMES))
}

/// Some layers of a Qwen3 may see a window only.
fn refuse_windows(config: Config<'_>) -> Result<()> {
    config.refuse_flag("use_sliding_window", "sliding-window attention")?;
    let Some(Value::Array(layers)) = config.get("layer_types") else { return Ok(()) };
    match layers.iter().find(|layer| layer.as_str() != Some("full_attention")) {
        Some(other) => Err(unsupported(format!("layer_types: expected \"full_attention\" only, found {other}"))),
        None => Ok(()),
    }
}

/// The base of the rotary frequencies: `rope_parameters` (transformers 5), or `rope_theta` beside `rope_scaling` (before).
fn theta(config: Config<'_>) -> Result<f32> {
    // The default of transformers for this architecture.
    let mut theta = config.positive_or("rope_theta", 10_000.0)?;
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = config.object(key)? else { continue };
        let kind = rope.text("rope_type")?.or(rope.text("type")?).unwrap_or("default");
        if kind != "default" {
            return Err(unsupported(format!("{key}: expected the rope_type \"default\", found {kind:?}")));
        }
        theta = rope.positive_or("rope_theta", theta)?;
    }
    Ok(theta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Value {
        json!({"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
               "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151669,
               "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "hidden_act": "silu",
               "attention_bias": false, "tie_word_embeddings": true, "use_sliding_window": false, "sliding_window": null})
    }

    fn with(key: &str, value: Value) -> Result<(Blueprint, WeightNames)> {
        let mut config = config();
        config[key] = value;
        parse(&config)
    }

    #[test]
    fn qwen3_embedding_has_its_known_number_of_parameters() {
        let (blueprint, names) = parse(&config()).unwrap();
        assert_eq!(blueprint.parameters(), 595_776_512);
        assert_eq!(blueprint.attention.rope.unwrap().theta, 1e6);
        assert_eq!(names.weight(Role::MlpNorm, 27), "layers.27.post_attention_layernorm.weight");
    }

    #[test]
    fn the_rotary_base_is_found_in_both_forms() {
        let theta = |key, value| with(key, value).map(|(b, _)| b.attention.rope.unwrap().theta);
        assert_eq!(theta("rope_theta", json!(5e5)).unwrap(), 5e5);
        assert_eq!(theta("rope_theta", Value::Null).unwrap(), 1e4);
        assert_eq!(theta("rope_parameters", json!({"rope_type": "default", "rope_theta": 2e4})).unwrap(), 2e4);
        assert_eq!(theta("rope_scaling", json!({"type": "default"})).unwrap(), 1e6);
        for key in ["rope_scaling", "rope_parameters"] {
            let e = theta(key, json!({"rope_type": "yarn", "factor": 4.0})).unwrap_err();
            assert!(e.message().starts_with(key) && e.message().contains("found \"yarn\""), "{e}");
        }
    }

    #[test]
    fn absurd_and_foreign_configurations_are_refused_by_key() {
        for (key, value) in [
            ("num_key_value_heads", json!(3)),
            ("num_key_value_heads", json!(32)),
            ("head_dim", json!(127)),
            ("head_dim", json!(4096)),
            ("use_sliding_window", json!(true)),
            ("layer_types", json!(["full_attention", "sliding_attention"])),
            ("is_causal", json!(false)),
            ("use_bidirectional_attention", json!(true)),
            ("rope_parameters", json!([1])),
            ("rms_norm_eps", json!("small")),
        ] {
            let e = with(key, value).unwrap_err();
            assert!(e.message().starts_with(&format!("{key}: ")), "{e}");
        }
        assert!(with("num_attention_heads", json!(65536)).unwrap_err().message().contains("found 8388608"));
    }
}
