//! MPNet: BERT without token types, with a learned bias by distance in the attention of every block.

use super::bert;
use crate::{
    Blueprint, EmbeddingSpec, PositionBias, Role, WeightNames,
    config::{Config, unsupported},
};
use embral_types::Result;
use serde_json::Value;

const NAMES: WeightNames = WeightNames {
    prefixes: &["", "mpnet."],
    templates: &[
        (Role::Word, "embeddings.word_embeddings"),
        (Role::Position, "embeddings.position_embeddings"),
        (Role::EmbeddingNorm, "embeddings.LayerNorm"),
        (Role::DistanceBias, "encoder.relative_attention_bias"),
        (Role::Query, "encoder.layer.{}.attention.attn.q"),
        (Role::Key, "encoder.layer.{}.attention.attn.k"),
        (Role::Value, "encoder.layer.{}.attention.attn.v"),
        (Role::AttentionOut, "encoder.layer.{}.attention.attn.o"),
        (Role::AttentionNorm, "encoder.layer.{}.attention.LayerNorm"),
        (Role::Up, "encoder.layer.{}.intermediate.dense"),
        (Role::Down, "encoder.layer.{}.output.dense"),
        (Role::MlpNorm, "encoder.layer.{}.output.LayerNorm"),
    ],
    blocks: &[],
    whole: &[],
};

/// The code of the models has these numbers, whatever the configuration says.
const BUCKETS: usize = 32;
const FAR: usize = 128;
const FIRST_POSITION: usize = 2;

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    let buckets = config.number_or("relative_attention_num_buckets", BUCKETS, 0..=usize::MAX)?;
    if buckets != BUCKETS {
        return Err(unsupported(format!("relative_attention_num_buckets: expected {BUCKETS}, found {buckets}")));
    }
    let mut blueprint = bert::blueprint(config, FIRST_POSITION)?;
    blueprint.embedding = EmbeddingSpec { token_types: 0, ..blueprint.embedding };
    blueprint.attention.bias = Some(PositionBias::Learned { buckets, far: FAR });
    Ok((blueprint, NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mpnet_base_has_its_known_number_of_parameters() {
        let mut config = json!({"model_type": "mpnet", "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
            "vocab_size": 30527, "max_position_embeddings": 514, "relative_attention_num_buckets": 32});
        let (blueprint, _) = parse(&config).unwrap();
        assert_eq!((blueprint.parameters(), blueprint.max_positions), (108_895_872, 512));
        config["relative_attention_num_buckets"] = json!(64);
        assert!(parse(&config).unwrap_err().message().contains("expected 32, found 64"));
        config["relative_attention_num_buckets"] = Value::Null;
        config["max_position_embeddings"] = json!(2);
        assert!(parse(&config).unwrap_err().message().starts_with("max_position_embeddings: "));
    }
}
