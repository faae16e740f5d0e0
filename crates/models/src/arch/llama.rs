//! Llama, and EuroBERT, which is a Llama that sees both ways.

use super::decoder::{self, Family, NAMES, Window};
use crate::{Blueprint, View, WeightNames, config::Config};
use embral_types::{Mask, Result};
use serde_json::Value;

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    Ok((blueprint(Config::of(config)?)?, NAMES))
}

/// EuroBERT's configuration does not say that it is no decoder.
pub(crate) fn parse_eurobert(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let mut blueprint = blueprint(Config::of(config)?)?;
    for view in &mut blueprint.attention.views {
        *view = View { mask: Mask::Full, ..*view };
    }
    Ok((blueprint, NAMES))
}

fn blueprint(config: Config<'_>) -> Result<Blueprint> {
    let bias = config.flag_or("attention_bias", false)?;
    let family = Family {
        head_dim: None,
        qkv_bias: bias,
        out_bias: bias,
        mlp_bias: config.flag_or("mlp_bias", false)?,
        qk_norm: None,
        max_positions: 2048,
    };
    decoder::blueprint(config, &family, &Window::none(config)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RopeScaling;
    use serde_json::json;

    fn config() -> Value {
        json!({"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu",
            "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                             "original_max_position_embeddings": 8192, "rope_type": "llama3"}})
    }

    #[test]
    fn llama_3_has_its_known_number_of_parameters() {
        let (blueprint, _) = parse(&config()).unwrap();
        assert_eq!(blueprint.parameters(), 1_235_814_400);
        let scaling = RopeScaling::Llama3 { factor: 32.0, original: 8192, low: 1.0, high: 4.0 };
        let view = blueprint.attention.views[15];
        assert_eq!((view.mask, view.rope.unwrap().scaling), (Mask::Causal, scaling));
    }

    #[test]
    fn eurobert_sees_both_ways() {
        assert_eq!(parse_eurobert(&config()).unwrap().0.attention.views[0].mask, Mask::Full);
    }
}
