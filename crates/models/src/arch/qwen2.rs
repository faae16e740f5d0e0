//! Qwen2: the decoder of Llama with biases of query, key and value. Embedding models made of it see both ways where `is_causal` is
//! false, as gte-Qwen2 does.

use super::{
    decoder::{self, Family, NAMES},
    qwen3,
};
use crate::{Blueprint, WeightNames, config::Config};
use embral_types::Result;
use serde_json::Value;

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    let family = Family {
        head_dim: None,
        qkv_bias: true,
        out_bias: false,
        mlp_bias: false,
        qk_norm: None,
        max_positions: 32_768,
    };
    Ok((decoder::blueprint(config, &family, &qwen3::window(config)?)?, NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_types::Mask;
    use serde_json::json;

    #[test]
    fn gte_qwen2_has_its_known_number_of_parameters() {
        let mut config = json!({"model_type": "qwen2", "hidden_size": 1536, "num_hidden_layers": 28,
            "num_attention_heads": 12, "num_key_value_heads": 2, "intermediate_size": 8960, "vocab_size": 151646,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "hidden_act": "silu",
            "use_sliding_window": false, "sliding_window": 131072, "max_window_layers": 21});
        let (blueprint, _) = parse(&config).unwrap();
        assert_eq!(blueprint.parameters(), 1_543_268_864);
        assert!(blueprint.attention.views.iter().all(|view| view.mask == Mask::Causal));
        config["is_causal"] = json!(false);
        assert_eq!(parse(&config).unwrap().0.attention.views[27].mask, Mask::Full);
        config["num_attention_heads"] = json!(14);
        assert!(parse(&config).unwrap_err().message().contains("divisor of hidden_size 1536, found 14"));
    }
}
