//! JinaBERT v2: BERT with ALiBi in the place of learned positions, and a gated MLP. The models for code norm queries and keys, and the
//! attention twice. Both call themselves "bert", with `position_embedding_type` "alibi".

use super::bert;
use crate::{
    Blueprint, EmbeddingSpec, MlpSpec, NormPlace, PositionBias, Positions, QkNorm, Role, WeightNames,
    config::{Config, malformed, unsupported},
    names::Block,
};
use embral_types::{Activation, Result};
use serde_json::Value;

macro_rules! names {
    ($($more:expr),* $(,)?) => {
        &[
            (Role::Word, "embeddings.word_embeddings"),
            (Role::TokenType, "embeddings.token_type_embeddings"),
            (Role::EmbeddingNorm, "embeddings.LayerNorm"),
            (Role::Query, "encoder.layer.{}.attention.self.query"),
            (Role::Key, "encoder.layer.{}.attention.self.key"),
            (Role::Value, "encoder.layer.{}.attention.self.value"),
            (Role::AttentionOut, "encoder.layer.{}.attention.output.dense"),
            $($more),*
        ]
    };
}

const NAMES: WeightNames = WeightNames {
    prefixes: &["", "bert."],
    templates: names![
        (Role::AttentionNorm, "encoder.layer.{}.attention.output.LayerNorm"),
        (Role::Gate, "encoder.layer.{}.mlp.gated_layers"),
        (Role::Up, "encoder.layer.{}.mlp.gated_layers"),
        (Role::Down, "encoder.layer.{}.mlp.wo"),
        (Role::MlpNorm, "encoder.layer.{}.mlp.layernorm"),
    ],
    blocks: &[(Role::Gate, Block { index: 0, count: 2 }), (Role::Up, Block { index: 1, count: 2 })],
    whole: &[],
};

/// Of the models for code, whose halves of the MLP have the other order.
const CODE_NAMES: WeightNames = WeightNames {
    prefixes: &["", "bert."],
    templates: names![
        (Role::QueryNorm, "encoder.layer.{}.attention.self.layer_norm_q"),
        (Role::KeyNorm, "encoder.layer.{}.attention.self.layer_norm_k"),
        (Role::AttentionOutNorm, "encoder.layer.{}.attention.output.LayerNorm"),
        (Role::AttentionNorm, "encoder.layer.{}.layer_norm_1"),
        (Role::Up, "encoder.layer.{}.mlp.up_gated_layer"),
        (Role::Gate, "encoder.layer.{}.mlp.up_gated_layer"),
        (Role::Down, "encoder.layer.{}.mlp.down_layer"),
        (Role::MlpNorm, "encoder.layer.{}.layer_norm_2"),
    ],
    blocks: &[(Role::Up, Block { index: 0, count: 2 }), (Role::Gate, Block { index: 1, count: 2 })],
    whole: &[],
};

/// The most numbers of the table by distance that is made: 128 heads of a million places.
const MAX_DISTANCES: usize = 1 << 27;

/// Whether a configuration that says "bert" is one of these.
pub(crate) fn is_meant(config: Config<'_>) -> Result<bool> {
    Ok(config.text("model_type")? == Some("bert") && config.text("position_embedding_type")? == Some("alibi"))
}

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    let activation = match config.text("feed_forward_type")? {
        Some("geglu") => Activation::GeluErf,
        Some("reglu") => Activation::Relu,
        other => return Err(unsupported(format!("feed_forward_type: expected geglu or reglu, found {other:?}"))),
    };
    let mut blueprint = bert::without_position_kind(config, 0)?;
    let places = blueprint.max_positions.saturating_mul(blueprint.attention.heads);
    if places > MAX_DISTANCES {
        return Err(malformed(format!(
            "max_position_embeddings: expected at most {MAX_DISTANCES} places of all heads, found {places}"
        )));
    }
    blueprint.embedding = EmbeddingSpec { positions: Positions::None, ..blueprint.embedding };
    blueprint.attention.bias = Some(PositionBias::Alibi);
    blueprint.mlp = MlpSpec { gated: true, activation, up_bias: false, ..blueprint.mlp };
    // What tells the two apart is where their code is from.
    let code = config.object("auto_map")?.into_iter().flat_map(Config::entries);
    if code.into_iter().any(|(_, value)| value.as_str().is_some_and(|path| path.contains("qk-post-norm"))) {
        blueprint.attention.qk_norm = Some(QkNorm::All);
        blueprint.norm_place = NormPlace::PostTwice;
        return Ok((blueprint, CODE_NAMES));
    }
    Ok((blueprint, NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_config;
    use serde_json::json;

    fn config() -> Value {
        json!({"model_type": "bert", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
            "intermediate_size": 2048, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "vocab_size": 30528,
            "type_vocab_size": 2, "max_position_embeddings": 8192, "position_embedding_type": "alibi",
            "feed_forward_type": "geglu", "attn_implementation": "torch",
            "auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"}})
    }

    #[test]
    fn jina_small_has_its_known_number_of_parameters() {
        let (architecture, blueprint, names) = parse_config(config().to_string().as_bytes()).unwrap();
        assert_eq!(architecture.name, "jina_bert");
        // 32,690,688 with the pooler, which has 512 * 512 + 512.
        assert_eq!(blueprint.parameters(), 32_690_688 - 262_656);
        assert_eq!(names.weight(Role::Gate, 1), "encoder.layer.1.mlp.gated_layers.weight");
    }

    #[test]
    fn models_for_code_norm_more() {
        let mut config = config();
        config["auto_map"]["AutoModel"] = json!("jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel");
        let (blueprint, names) = parse(&config).unwrap();
        assert_eq!((blueprint.norm_place, blueprint.attention.qk_norm), (NormPlace::PostTwice, Some(QkNorm::All)));
        assert_eq!(names.weight(Role::AttentionNorm, 1), "encoder.layer.1.layer_norm_1.weight");
        for (key, value) in
            [("feed_forward_type", json!("original")), ("max_position_embeddings", json!(16_777_217u32))]
        {
            let mut config = config.clone();
            config[key] = value;
            assert!(parse(&config).unwrap_err().message().starts_with(&format!("{key}: ")));
        }
    }
}
