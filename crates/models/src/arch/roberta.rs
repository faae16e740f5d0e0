//! RoBERTa, and XLM-RoBERTa and CamemBERT, which differ from it in their vocabularies: BERT whose positions start behind that of
//! the padding token.

use super::bert;
use crate::{
    Blueprint, WeightNames,
    config::{Config, limit},
};
use embral_types::Result;
use serde_json::Value;

const NAMES: WeightNames = WeightNames { prefixes: &["", "roberta."], ..bert::NAMES };

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    let padding = config.number_or("pad_token_id", 1, limit::TOKEN)?;
    Ok((bert::blueprint(config, padding + 1)?, NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Positions, Role, parse_config};
    use serde_json::json;

    fn config() -> Value {
        json!({"model_type": "xlm-roberta", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
               "intermediate_size": 4096, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "vocab_size": 250002,
               "max_position_embeddings": 8194, "type_vocab_size": 1, "pad_token_id": 1,
               "position_embedding_type": "absolute"})
    }

    #[test]
    fn bge_m3_has_its_known_number_of_parameters_and_two_positions_less_than_rows() {
        let (blueprint, names) = parse(&config()).unwrap();
        // 567,754,752 with the pooler, which has 1024 * 1024 + 1024.
        assert_eq!(blueprint.parameters(), 567_754_752 - 1_049_600);
        assert_eq!(blueprint.max_positions, 8192);
        assert_eq!(blueprint.embedding.positions, Positions::Learned { rows: 8194, offset: 2, padding: Some(1) });
        assert_eq!(names.weight(Role::Up, 2), "encoder.layer.2.intermediate.dense.weight");
    }

    #[test]
    fn all_three_names_are_read_and_a_padding_token_without_room_is_refused() {
        for name in ["roberta", "xlm-roberta", "camembert"] {
            let mut config = config();
            config["model_type"] = json!(name);
            assert_eq!(parse_config(config.to_string().as_bytes()).unwrap().0.name, name);
            config["pad_token_id"] = json!(8193);
            let e = parse_config(config.to_string().as_bytes()).unwrap_err();
            assert!(e.message().starts_with("max_position_embeddings: expected a whole number from 8195"), "{e}");
        }
    }
}
