//! Mistral: Llama where a token sees a window before it, unless `sliding_window` is null.

use super::decoder::{self, Family, NAMES, Window};
use crate::{
    Blueprint, WeightNames,
    config::{Config, limit},
};
use embral_types::Result;
use serde_json::Value;

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    let family = Family {
        head_dim: None,
        qkv_bias: false,
        out_bias: false,
        mlp_bias: false,
        qk_norm: None,
        max_positions: 131_072,
    };
    let size = match config.optional_number("sliding_window", limit::POSITIONS)? {
        // Null is not the same as nothing here.
        None if !config.states("sliding_window") => Some(4096),
        size => size,
    };
    Ok((decoder::blueprint(config, &family, &Window::read(config, size, |_| size.is_some())?)?, NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_types::Mask;
    use serde_json::json;

    #[test]
    fn e5_mistral_has_its_known_number_of_parameters_and_the_window_three_forms() {
        let mut config = json!({"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
            "sliding_window": 64});
        let (blueprint, _) = parse(&config).unwrap();
        assert_eq!(blueprint.parameters(), 7_110_660_096);
        assert_eq!(blueprint.attention.views[31].mask, Mask::CausalWindow(63));
        config["sliding_window"] = Value::Null;
        assert_eq!(parse(&config).unwrap().0.attention.views[0].mask, Mask::Causal);
        config.as_object_mut().unwrap().remove("sliding_window");
        assert_eq!(parse(&config).unwrap().0.attention.views[0].mask, Mask::CausalWindow(4095));
    }
}
