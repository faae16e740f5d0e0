//! Qwen3: rotary positions, RMS norm before each part and of each q and k head, grouped keys, causal mask, gated MLP.

use super::decoder::{self, Family, Window};
use crate::{
    Blueprint, QkNorm, Role, WeightNames,
    config::{Config, limit},
};
use embral_types::Result;
use serde_json::Value;

const NAMES: WeightNames = WeightNames {
    prefixes: decoder::PREFIXES,
    templates: decoder::names![
        (Role::QueryNorm, "layers.{}.self_attn.q_norm"),
        (Role::KeyNorm, "layers.{}.self_attn.k_norm"),
        (Role::MlpNorm, "layers.{}.post_attention_layernorm"),
    ],
    blocks: &[],
    whole: &[],
};

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    let bias = config.flag_or("attention_bias", false)?;
    let family = Family {
        head_dim: Some(128),
        qkv_bias: bias,
        out_bias: bias,
        mlp_bias: false,
        qk_norm: Some(QkNorm::Head),
        max_positions: 32_768,
    };
    Ok((decoder::blueprint(config, &family, &window(config)?)?, NAMES))
}

/// Where `use_sliding_window` is on, blocks from `max_window_layers` on, or those that `layer_types` names, see a window only.
pub(super) fn window(config: Config<'_>) -> Result<Window> {
    let on = config.flag_or("use_sliding_window", false)?;
    let size = if on { Some(config.number_or("sliding_window", 4096, limit::POSITIONS)?) } else { None };
    let first = config.number_or("max_window_layers", 28, 0..=usize::MAX)?;
    Window::read(config, size, |layer| on && layer >= first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::View;
    use embral_types::Mask;
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
        let view = View { mask: Mask::Causal, rope: blueprint.attention.views[0].rope };
        assert_eq!((view.rope.unwrap().theta, &blueprint.attention.views), (1e6, &vec![view; 28]));
        assert_eq!(names.weight(Role::MlpNorm, 27), "layers.27.post_attention_layernorm.weight");
    }

    #[test]
    fn the_rotary_base_is_found_in_both_forms() {
        let theta = |key, value| with(key, value).map(|(b, _)| b.attention.views[0].rope.unwrap().theta);
        assert_eq!(theta("rope_theta", json!(5e5)).unwrap(), 5e5);
        assert_eq!(theta("rope_theta", Value::Null).unwrap(), 1e4);
        assert_eq!(theta("rope_parameters", json!({"rope_type": "default", "rope_theta": 2e4})).unwrap(), 2e4);
        assert_eq!(theta("rope_scaling", json!({"type": "default"})).unwrap(), 1e6);
    }

    #[test]
    fn windows_are_those_of_the_layers_that_have_one() {
        let masks = |change: Value| {
            let mut config = config();
            config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            parse(&config).map(|(b, _)| b.attention.views.iter().map(|v| v.mask).collect::<Vec<_>>())
        };
        let three =
            json!({"num_hidden_layers": 3, "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1});
        let window = Mask::CausalWindow(7);
        assert_eq!(masks(three.clone()).unwrap(), [Mask::Causal, window, window]);
        let mut named = three.clone();
        named["layer_types"] = json!(["sliding_attention", "full_attention", "sliding_attention"]);
        assert_eq!(masks(named.clone()).unwrap(), [window, Mask::Causal, window]);
        named["is_causal"] = json!(false);
        assert_eq!(masks(named.clone()).unwrap(), [Mask::Window(8), Mask::Full, Mask::Window(8)]);
        named["use_sliding_window"] = json!(false);
        assert!(masks(named).unwrap_err().message().starts_with("sliding_window: "));
        assert_eq!(masks(json!({"num_hidden_layers": 1, "use_bidirectional_attention": true})).unwrap(), [Mask::Full]);
        assert!(masks(json!({"layer_types": ["full_attention"]})).unwrap_err().message().contains("28 entries"));
    }

    #[test]
    fn absurd_and_foreign_configurations_are_refused_by_key() {
        for (key, value) in [
            ("num_key_value_heads", json!(3)),
            ("num_key_value_heads", json!(32)),
            ("head_dim", json!(127)),
            ("head_dim", json!(4096)),
            ("layer_types", json!("full")),
            ("layer_types", json!(vec!["linear_attention"; 28])),
            ("rope_parameters", json!([1])),
            ("rms_norm_eps", json!("small")),
        ] {
            let e = with(key, value).unwrap_err();
            assert!(e.message().starts_with(&format!("{key}: ")), "{e}");
        }
        assert!(with("num_attention_heads", json!(65536)).unwrap_err().message().contains("found 8388608"));
    }
}
