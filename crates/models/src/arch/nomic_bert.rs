//! NomicBert: BERT with rotary positions, and a gated MLP without biases in most of its models. Its configuration has the keys of
//! GPT-2, or those of transformers.

use crate::{
    AttentionSpec, Blueprint, EmbeddingSpec, ExpertsSpec, MlpSpec, NormPlace, NormSpec, Positions, Role, RopeScaling,
    RopeSpec, View, WeightNames,
    config::{Config, limit, malformed, unsupported},
    names::FUSED_QKV,
    rope,
};
use embral_types::{Activation, Mask, NormKind, Result};
use serde_json::Value;

macro_rules! names {
    ($($mlp:expr),*) => {
        WeightNames {
            prefixes: &["", "bert.", "nomic_bert."],
            templates: &[
                (Role::Word, "embeddings.word_embeddings"),
                (Role::TokenType, "embeddings.token_type_embeddings"),
                (Role::EmbeddingNorm, "emb_ln"),
                (Role::Query, "encoder.layers.{}.attn.Wqkv"),
                (Role::Key, "encoder.layers.{}.attn.Wqkv"),
                (Role::Value, "encoder.layers.{}.attn.Wqkv"),
                (Role::AttentionOut, "encoder.layers.{}.attn.out_proj"),
                (Role::AttentionNorm, "encoder.layers.{}.norm1"),
                (Role::Down, "encoder.layers.{}.mlp.fc2"),
                (Role::MlpNorm, "encoder.layers.{}.norm2"),
                (Role::Router, "encoder.layers.{}.mlp.router.layer"),
                (Role::ExpertsUp, "encoder.layers.{}.mlp.experts.mlp.w1"),
                (Role::ExpertsDown, "encoder.layers.{}.mlp.experts.mlp.w2"),
                (Role::ExpertsBias, "encoder.layers.{}.mlp.experts.bias"),
                $($mlp),*
            ],
            blocks: &FUSED_QKV,
            whole: &[Role::ExpertsUp, Role::ExpertsDown, Role::ExpertsBias],
        }
    };
}

const GATED: WeightNames = names![(Role::Up, "encoder.layers.{}.mlp.fc11"), (Role::Gate, "encoder.layers.{}.mlp.fc12")];
const PLAIN: WeightNames = names![(Role::Up, "encoder.layers.{}.mlp.fc1")];

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    for (key, what) in [
        ("prenorm", "a norm before each part"),
        ("parallel_block", "attention and MLP side by side"),
        ("use_rms_norm", "an RMS norm"),
        ("causal", "a causal mask"),
    ] {
        config.refuse_flag(key, what)?;
    }
    let either = |old: &'static str, new: &'static str| if config.get(old).is_some() { old } else { new };
    let hidden = config.number(either("n_embd", "hidden_size"), limit::WIDTH)?;
    let layers = config.number(either("n_layer", "num_hidden_layers"), limit::LAYERS)?;
    let (heads, head_dim) = config.heads(either("n_head", "num_attention_heads"), hidden)?;
    let (gated, activation) = activation(config)?;
    let bias = config.flag_or("qkv_proj_bias", false)?;
    let (positions, rope) = positions(config, head_dim)?;
    let width = either("n_inner", "intermediate_size");
    let eps = either("layer_norm_epsilon", "layer_norm_eps");
    let blueprint = Blueprint {
        vocab: config.number("vocab_size", limit::VOCAB)?,
        hidden,
        layers,
        embedding: EmbeddingSpec {
            positions: Positions::None,
            token_types: config.number_or("type_vocab_size", 2, limit::TOKEN_TYPES)?,
            norm: true,
            scale: 1.0,
        },
        attention: AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim,
            scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            views: vec![View { mask: Mask::Full, rope: Some(rope) }; layers],
            qkv_bias: bias,
            out_bias: bias,
            qk_norm: None,
            bias: None,
        },
        mlp: MlpSpec {
            width: config.number_or(width, 4 * hidden, limit::MLP)?,
            gated,
            activation,
            up_bias: config.flag_or("mlp_fc1_bias", false)?,
            down_bias: config.flag_or("mlp_fc2_bias", false)?,
            experts: experts(config, layers, gated)?,
        },
        norm: NormSpec { kind: NormKind::Layer, eps: config.positive_or(eps, 1e-12)?, bias: true, less_one: false },
        norm_place: NormPlace::Post,
        first_norm: true,
        final_norm: false,
        max_positions: positions,
    };
    Ok((blueprint, if gated { GATED } else { PLAIN }))
}

/// Whether the MLP has a gate, and the function.
fn activation(config: Config<'_>) -> Result<(bool, Activation)> {
    match config.text("activation_function")? {
        // transformers knows the gated form only.
        None => Ok((true, config.activation("hidden_act", Activation::Silu)?)),
        Some("swiglu") => Ok((true, Activation::Silu)),
        Some("geglu") => Ok((true, Activation::GeluErf)),
        Some(_) => Ok((false, config.activation("activation_function", Activation::GeluErf)?)),
    }
}

/// The experts of every `moe_every_n_layers`th block, from the second on, as nomic-embed-text-v2 has them.
fn experts(config: Config<'_>, layers: usize, gated: bool) -> Result<Option<ExpertsSpec>> {
    let every = config.number_or("moe_every_n_layers", 0, 0..=*limit::LAYERS.end())?;
    if every == 0 {
        return Ok(None);
    }
    for (key, what) in [
        ("moe_normalize_expert_weights", "a mixture whose weights sum to 1"),
        ("expert_choice_router", "a router by which experts choose tokens"),
    ] {
        config.refuse_flag(key, what)?;
    }
    if config.number_or("num_shared_experts", 0, 0..=usize::MAX)? > 0 || gated {
        return Err(unsupported("num_shared_experts: expected experts without a gate and none that all tokens share"));
    }
    let count = config.number("num_experts", 1..=1024)?;
    let chosen = config.number("moe_top_k", 1..=count)?;
    let blocks = (0..layers).map(|layer| layer % every == 1 % every).collect();
    Ok(Some(ExpertsSpec { count, chosen, blocks, bias: true, down_by_output: false }))
}

fn positions(config: Config<'_>, head_dim: usize) -> Result<(usize, RopeSpec)> {
    let mut rope = if config.get("rotary_emb_base").is_some() || config.get("rotary_emb_fraction").is_some() {
        let rotated = head_dim as f32 * config.positive_or("rotary_emb_fraction", 1.0)?;
        RopeSpec {
            theta: config.positive_or("rotary_emb_base", 10_000.0)?,
            rotary_dims: rotated as usize,
            interleaved: false,
            scaling: RopeScaling::None,
        }
    } else {
        rope::read(config, 1_000.0, head_dim)?
    };
    if config.get("rotary_emb_scale_base").is_some() {
        return Err(unsupported("rotary_emb_scale_base: rotary positions that fade are not done by this version"));
    }
    let dims = rope.rotary_dims;
    if !dims.is_multiple_of(2) || dims == 0 || dims > head_dim {
        return Err(malformed(format!(
            "rotary_emb_fraction: expected an even number of at most {head_dim} rotated components, found {dims}"
        )));
    }
    rope.interleaved = config.flag_or("rotary_emb_interleaved", false)?;
    let key = if config.get("n_positions").is_some() { "n_positions" } else { "max_position_embeddings" };
    let positions = config.number_or(key, 2048, limit::POSITIONS)?;
    if config.get("rotary_scaling_factor").is_some() {
        // The frequencies change with the length of a text that is longer than those of the training.
        let trained = config.number_or("max_trained_positions", 2048, limit::POSITIONS)?;
        return Ok((positions.min(trained), rope));
    }
    Ok((positions, rope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Value {
        json!({"model_type": "nomic_bert", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": 3072,
            "n_positions": 8192, "max_trained_positions": 2048, "activation_function": "swiglu", "vocab_size": 30528,
            "type_vocab_size": 2, "layer_norm_epsilon": 1e-12, "qkv_proj_bias": false, "mlp_fc1_bias": false,
            "mlp_fc2_bias": false, "prenorm": false, "parallel_block": false, "use_rms_norm": false, "causal": false,
            "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": false,
            "rotary_emb_scale_base": null, "rotary_scaling_factor": null})
    }

    #[test]
    fn nomic_embed_has_its_known_number_of_parameters_in_both_forms() {
        let (blueprint, names) = parse(&config()).unwrap();
        assert_eq!(blueprint.parameters(), 136_731_648);
        assert_eq!(names.weight(Role::Gate, 2), "encoder.layers.2.mlp.fc12.weight");
        let new = json!({"model_type": "nomic_bert", "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "silu", "vocab_size": 30528,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12, "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}});
        assert_eq!(parse(&new).unwrap().0, blueprint);
    }

    #[test]
    fn every_second_block_of_the_mixture_has_experts() {
        let mut config = config();
        let more = json!({"activation_function": "gelu", "vocab_size": 250048, "type_vocab_size": 1, "qkv_proj_bias": true,
            "mlp_fc1_bias": true, "mlp_fc2_bias": true, "moe_every_n_layers": 2, "num_experts": 8, "moe_top_k": 2,
            "moe_normalize_expert_weights": false, "num_shared_experts": 0, "expert_choice_router": false});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (blueprint, names) = parse(&config).unwrap();
        assert_eq!(blueprint.parameters(), 475_292_928);
        let experts = blueprint.mlp.experts_of(1).unwrap();
        assert_eq!((experts.count, experts.chosen, blueprint.mlp.experts_of(2)), (8, 2, None));
        assert_eq!(names.weight(Role::ExpertsUp, 1), "encoder.layers.1.mlp.experts.mlp.w1");
        for (key, value) in [
            ("moe_top_k", json!(9)),
            ("num_experts", json!(0)),
            ("moe_normalize_expert_weights", json!(true)),
            ("num_shared_experts", json!(1)),
        ] {
            let old = std::mem::replace(&mut config[key], value);
            let e = parse(&config).unwrap_err();
            assert!(e.message().starts_with(&format!("{key}: ")), "{e}");
            config[key] = old;
        }
    }

    #[test]
    fn texts_beyond_the_training_are_cut_where_the_frequencies_would_change() {
        let mut config = config();
        config["rotary_scaling_factor"] = json!(2);
        assert_eq!(parse(&config).unwrap().0.max_positions, 2048);
        config["activation_function"] = json!("gelu");
        let (blueprint, names) = parse(&config).unwrap();
        assert!(!blueprint.mlp.gated);
        assert_eq!(names.weight(Role::Up, 0), "encoder.layers.0.mlp.fc1.weight");
        for (key, value) in [
            ("prenorm", json!(true)),
            ("rotary_emb_scale_base", json!(512)),
            ("rotary_emb_fraction", json!(0.01)),
            ("n_head", json!(5)),
        ] {
            let old = std::mem::replace(&mut config[key], value);
            let e = parse(&config).unwrap_err();
            assert!(e.message().starts_with(&format!("{key}: ")), "{e}");
            config[key] = old;
        }
    }
}
