//! Gemma 3, and EmbeddingGemma, which is one that sees both ways: norms on both sides of each part and of each q and k head, blocks
//! with a window between those that see all.

use super::decoder::{self, heads, local_layers};
use crate::{
    AttentionSpec, Blueprint, EmbeddingSpec, MlpSpec, NormPlace, NormSpec, Positions, QkNorm, Role, View, WeightNames,
    config::{Config, limit, unsupported},
    rope,
};
use embral_types::{Activation, Mask, NormKind, Result};
use serde_json::Value;

const NAMES: WeightNames = WeightNames {
    prefixes: decoder::PREFIXES,
    templates: decoder::names![
        (Role::QueryNorm, "layers.{}.self_attn.q_norm"),
        (Role::KeyNorm, "layers.{}.self_attn.k_norm"),
        (Role::AttentionOutNorm, "layers.{}.post_attention_layernorm"),
        (Role::MlpNorm, "layers.{}.pre_feedforward_layernorm"),
        (Role::MlpOutNorm, "layers.{}.post_feedforward_layernorm"),
    ],
    blocks: &[],
    whole: &[],
};

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    if config.get("attn_logit_softcapping").is_some() {
        return Err(unsupported("attn_logit_softcapping: capped scores are not done by this version"));
    }
    let hidden = config.number("hidden_size", limit::WIDTH)?;
    let layers = config.number("num_hidden_layers", limit::LAYERS)?;
    let (heads, kv_heads, head_dim) = heads(config, hidden, Some(256))?;
    let bias = config.flag_or("attention_bias", false)?;
    let blueprint = Blueprint {
        vocab: config.number("vocab_size", limit::VOCAB)?,
        hidden,
        layers,
        embedding: EmbeddingSpec {
            positions: Positions::None,
            token_types: 0,
            norm: false,
            scale: (hidden as f64).sqrt() as f32,
        },
        attention: AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            scale: (1.0 / f64::from(config.positive_or("query_pre_attn_scalar", 256.0)?).sqrt()) as f32,
            views: views(config, layers, head_dim)?,
            qkv_bias: bias,
            out_bias: bias,
            qk_norm: Some(QkNorm::Head),
            bias: None,
        },
        mlp: MlpSpec {
            width: config.number("intermediate_size", limit::MLP)?,
            gated: true,
            activation: config.activation("hidden_activation", Activation::GeluTanh)?,
            up_bias: false,
            down_bias: false,
            experts: None,
        },
        norm: NormSpec {
            kind: NormKind::Rms,
            eps: config.positive_or("rms_norm_eps", 1e-6)?,
            bias: false,
            less_one: true,
        },
        norm_place: NormPlace::Both,
        first_norm: true,
        final_norm: true,
        max_positions: config.number_or("max_position_embeddings", 131_072, limit::POSITIONS)?,
    };
    Ok((blueprint, NAMES))
}

fn views(config: Config<'_>, layers: usize, head_dim: usize) -> Result<Vec<View>> {
    let pattern = if config.get("sliding_window_pattern").is_some() {
        "sliding_window_pattern"
    } else {
        "_sliding_window_pattern"
    };
    let every = config.number_or(pattern, 6, 1..=*limit::LAYERS.end())?;
    let local = match local_layers(config, layers)? {
        Some(local) => local,
        None => (1..=layers).map(|number| !number.is_multiple_of(every)).collect(),
    };
    let size = config.number_or("sliding_window", 4096, limit::POSITIONS)?;
    let (all, window) = if config.flag_or("use_bidirectional_attention", false)? {
        (Mask::Full, Mask::Window(size / 2))
    } else {
        (Mask::Causal, Mask::CausalWindow(size - 1))
    };
    let global = config.positive_or("rope_theta", 1_000_000.0)?;
    let near = config.positive_or("rope_local_base_freq", 10_000.0)?;
    let all = View { mask: all, rope: Some(rope::read_kind(config, "full_attention", global, head_dim, true)?) };
    let window =
        View { mask: window, rope: Some(rope::read_kind(config, "sliding_attention", near, head_dim, false)?) };
    Ok(local.iter().map(|&local| if local { window } else { all }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Value {
        json!({"model_type": "gemma3_text", "hidden_size": 768, "num_hidden_layers": 24, "num_attention_heads": 3,
            "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 1152, "vocab_size": 262144,
            "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
            "query_pre_attn_scalar": 256, "sliding_window": 512, "_sliding_window_pattern": 6, "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0, "rope_scaling": null, "use_bidirectional_attention": true,
            "attention_bias": false, "attn_logit_softcapping": null, "final_logit_softcapping": null})
    }

    #[test]
    fn embeddinggemma_has_its_known_number_of_parameters() {
        let (blueprint, names) = parse(&config()).unwrap();
        assert_eq!(blueprint.parameters(), 302_863_104);
        assert_eq!((blueprint.attention.scale, blueprint.embedding.scale), (0.0625, 768f32.sqrt()));
        assert_eq!(names.weight(Role::MlpOutNorm, 1), "layers.1.post_feedforward_layernorm.weight");
    }

    #[test]
    fn every_sixth_block_sees_all_and_the_others_half_a_window_on_each_side() {
        let views = |config: &Value| {
            let views = parse(config).unwrap().0.attention.views;
            views.iter().skip(4).take(3).map(|v| (v.mask, v.rope.unwrap().theta)).collect::<Vec<_>>()
        };
        let (all, window) = ((Mask::Full, 1e6), (Mask::Window(256), 1e4));
        assert_eq!(views(&config()), [window, all, window]);
        let mut causal = config();
        causal["use_bidirectional_attention"] = json!(false);
        causal["layer_types"] = json!(vec!["sliding_attention"; 24]);
        assert_eq!(views(&causal), [(Mask::CausalWindow(511), 1e4); 3]);
        causal["attn_logit_softcapping"] = json!(50.0);
        assert!(parse(&causal).unwrap_err().message().starts_with("attn_logit_softcapping: "));
    }
}
