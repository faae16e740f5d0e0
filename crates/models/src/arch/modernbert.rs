//! ModernBERT: rotary positions, norms before each part, a gated MLP, and two kinds of blocks: every third sees all, the others a
//! window, each with its own base of rotary frequencies.

use super::decoder::local_layers;
use crate::{
    AttentionSpec, Blueprint, EmbeddingSpec, MlpSpec, NormPlace, NormSpec, Positions, Role, View, WeightNames,
    config::{Config, limit, malformed},
    names::{Block, FUSED_QKV},
    rope,
};
use embral_types::{Activation, Mask, NormKind, Result};
use serde_json::Value;

const NAMES: WeightNames = WeightNames {
    prefixes: &["", "model."],
    templates: &[
        (Role::Word, "embeddings.tok_embeddings"),
        (Role::EmbeddingNorm, "embeddings.norm"),
        (Role::AttentionNorm, "layers.{}.attn_norm"),
        (Role::Query, "layers.{}.attn.Wqkv"),
        (Role::Key, "layers.{}.attn.Wqkv"),
        (Role::Value, "layers.{}.attn.Wqkv"),
        (Role::AttentionOut, "layers.{}.attn.Wo"),
        (Role::MlpNorm, "layers.{}.mlp_norm"),
        (Role::Gate, "layers.{}.mlp.Wi"),
        (Role::Up, "layers.{}.mlp.Wi"),
        (Role::Down, "layers.{}.mlp.Wo"),
        (Role::FinalNorm, "final_norm"),
    ],
    // The half that goes through the function comes first.
    blocks: &[
        FUSED_QKV[0],
        FUSED_QKV[1],
        FUSED_QKV[2],
        (Role::Gate, Block { index: 0, count: 2 }),
        (Role::Up, Block { index: 1, count: 2 }),
    ],
    whole: &[],
};

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    let hidden = config.number("hidden_size", limit::WIDTH)?;
    let layers = config.number("num_hidden_layers", limit::LAYERS)?;
    let (heads, head_dim) = config.heads("num_attention_heads", hidden)?;
    if !head_dim.is_multiple_of(2) {
        return Err(malformed(format!("num_attention_heads: expected heads of an even width, found {head_dim}")));
    }
    let every = config.number_or("global_attn_every_n_layers", 3, 1..=*limit::LAYERS.end())?;
    let local = match local_layers(config, layers)? {
        Some(local) => local,
        None => (0..layers).map(|layer| !layer.is_multiple_of(every)).collect(),
    };
    let theta = |key, standard| config.positive_or(key, standard);
    let rope = |kind, theta| rope::read_kind(config, kind, theta, head_dim, true).map(Some);
    // As many tokens on each side.
    let reach = config.number_or("local_attention", 128, limit::POSITIONS)? / 2;
    let all = View { mask: Mask::Full, rope: rope("full_attention", theta("global_rope_theta", 160_000.0)?)? };
    let window =
        View { mask: Mask::Window(reach), rope: rope("sliding_attention", theta("local_rope_theta", 10_000.0)?)? };
    let bias = config.flag_or("attention_bias", false)?;
    let mlp_bias = config.flag_or("mlp_bias", false)?;
    let blueprint = Blueprint {
        vocab: config.number("vocab_size", limit::VOCAB)?,
        hidden,
        layers,
        embedding: EmbeddingSpec { positions: Positions::None, token_types: 0, norm: true, scale: 1.0 },
        attention: AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim,
            scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            views: local.iter().map(|&local| if local { window } else { all }).collect(),
            qkv_bias: bias,
            out_bias: bias,
            qk_norm: None,
            bias: None,
        },
        mlp: MlpSpec {
            width: config.number("intermediate_size", limit::MLP)?,
            gated: true,
            activation: config.activation("hidden_activation", Activation::GeluErf)?,
            up_bias: mlp_bias,
            down_bias: mlp_bias,
            experts: None,
        },
        norm: NormSpec {
            kind: NormKind::Layer,
            eps: config.positive_or("norm_eps", 1e-5)?,
            bias: config.flag_or("norm_bias", false)?,
            less_one: false,
        },
        norm_place: NormPlace::Pre,
        first_norm: false,
        final_norm: true,
        max_positions: config.number_or("max_position_embeddings", 8192, limit::POSITIONS)?,
    };
    Ok((blueprint, NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Value {
        json!({"model_type": "modernbert", "hidden_size": 768, "num_hidden_layers": 22, "num_attention_heads": 12,
            "intermediate_size": 1152, "hidden_activation": "gelu", "vocab_size": 50368, "norm_eps": 1e-5,
            "norm_bias": false, "attention_bias": false, "mlp_bias": false, "global_attn_every_n_layers": 3,
            "global_rope_theta": 160000.0, "local_rope_theta": 10000.0, "local_attention": 128,
            "max_position_embeddings": 8192})
    }

    #[test]
    fn modernbert_base_has_its_known_number_of_parameters() {
        let (blueprint, names) = parse(&config()).unwrap();
        assert_eq!(blueprint.parameters(), 149_014_272);
        assert_eq!(names.weight(Role::Key, 3), "layers.3.attn.Wqkv.weight");
    }

    #[test]
    fn blocks_take_turns_in_both_forms_of_the_configuration() {
        let views = |config: &Value| {
            let views = parse(config).unwrap().0.attention.views;
            views.iter().take(4).map(|v| (v.mask, v.rope.unwrap().theta)).collect::<Vec<_>>()
        };
        let (all, window) = ((Mask::Full, 160_000.0), (Mask::Window(64), 10_000.0));
        assert_eq!(views(&config()), [all, window, window, all]);
        let mut new = config();
        new["layer_types"] = json!(vec!["sliding_attention"; 22]);
        new["rope_parameters"] = json!({"full_attention": {"rope_type": "default", "rope_theta": 1.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 7.0}});
        assert_eq!(views(&new), [(Mask::Window(64), 7.0); 4]);
        for (key, value) in [
            ("layer_types", json!(["full_attention"])),
            ("global_attn_every_n_layers", json!(0)),
            ("local_attention", json!(0)),
            ("num_attention_heads", json!(256)),
        ] {
            let mut config = config();
            config[key] = value;
            let e = parse(&config).unwrap_err();
            assert!(e.message().starts_with(&format!("{key}: ")), "{e}");
        }
    }
}
