//! DeBERTa v2 and v3: BERT whose attention multiplies queries and keys with learned rows of distances, in the place of positions.

use super::bert;
use crate::{
    Blueprint, DisentangledSpec, EmbeddingSpec, PositionBias, Positions, Role, WeightNames,
    config::{Config, limit, malformed, unsupported},
};
use embral_types::Result;
use serde_json::Value;

const NAMES: WeightNames = WeightNames {
    prefixes: &["", "deberta."],
    templates: &[
        (Role::Word, "embeddings.word_embeddings"),
        (Role::Position, "embeddings.position_embeddings"),
        (Role::TokenType, "embeddings.token_type_embeddings"),
        (Role::EmbeddingNorm, "embeddings.LayerNorm"),
        (Role::Distances, "encoder.rel_embeddings"),
        (Role::DistancesNorm, "encoder.LayerNorm"),
        (Role::Query, "encoder.layer.{}.attention.self.query_proj"),
        (Role::Key, "encoder.layer.{}.attention.self.key_proj"),
        (Role::Value, "encoder.layer.{}.attention.self.value_proj"),
        (Role::DistanceKey, "encoder.layer.{}.attention.self.pos_key_proj"),
        (Role::DistanceQuery, "encoder.layer.{}.attention.self.pos_query_proj"),
        (Role::AttentionOut, "encoder.layer.{}.attention.output.dense"),
        (Role::AttentionNorm, "encoder.layer.{}.attention.output.LayerNorm"),
        (Role::Up, "encoder.layer.{}.intermediate.dense"),
        (Role::Down, "encoder.layer.{}.output.dense"),
        (Role::MlpNorm, "encoder.layer.{}.output.LayerNorm"),
    ],
    blocks: &[],
    whole: &[],
};

pub(crate) fn parse(config: &Value) -> Result<(Blueprint, WeightNames)> {
    let config = Config::of(config)?;
    if config.number_or("conv_kernel_size", 0, 0..=usize::MAX)? > 0 {
        return Err(unsupported("conv_kernel_size: a convolution behind the first block is not done by this version"));
    }
    let mut blueprint = bert::without_position_kind(config, 0)?;
    let hidden = blueprint.hidden;
    for key in ["embedding_size", "attention_head_size"] {
        let expected = if key == "embedding_size" { hidden } else { blueprint.attention.head_dim };
        if let Some(found) = config.optional_number(key, limit::WIDTH)?.filter(|&found| found != expected) {
            return Err(unsupported(format!("{key}: expected {expected}, found {found}")));
        }
    }
    let positions =
        if config.flag_or("position_biased_input", true)? { blueprint.embedding.positions } else { Positions::None };
    let token_types = config.number_or("type_vocab_size", 0, limit::TOKEN_TYPES)?;
    blueprint.embedding = EmbeddingSpec { positions, token_types, ..blueprint.embedding };
    blueprint.norm.eps = config.positive_or("layer_norm_eps", 1e-7)?;
    if !config.flag_or("relative_attention", false)? {
        return Ok((blueprint, NAMES));
    }
    let spec = distances(config, blueprint.max_positions)?;
    let products = 1 + usize::from(spec.query) + usize::from(spec.key);
    blueprint.attention.scale = (1.0 / ((blueprint.attention.head_dim * products) as f64).sqrt()) as f32;
    blueprint.attention.bias = Some(PositionBias::Disentangled(spec));
    Ok((blueprint, NAMES))
}

fn distances(config: Config<'_>, positions: usize) -> Result<DisentangledSpec> {
    let kinds: Vec<&str> = match config.get("pos_att_type") {
        None => Vec::new(),
        Some(Value::String(kinds)) => kinds.split('|').map(str::trim).collect(),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        Some(other) => {
            let found = crate::config::brief(other);
            return Err(malformed(format!("pos_att_type: expected c2p and p2c, found {found}")));
        }
    };
    if let Some(other) = kinds.iter().find(|kind| !["c2p", "p2c"].contains(kind)) {
        return Err(unsupported(format!("pos_att_type: expected c2p and p2c, found {other:?}")));
    }
    // Numbers below 1 stand for none.
    let positive = |key: &str| match config.get(key).and_then(Value::as_i64) {
        Some(..=0) => Ok(None),
        _ => config.optional_number(key, limit::POSITIONS),
    };
    let far = positive("max_relative_positions")?.unwrap_or(positions);
    let buckets = positive("position_buckets")?;
    if buckets.is_some_and(|buckets| buckets < 4 || buckets / 2 + 1 >= far) {
        return Err(malformed(format!(
            "position_buckets: expected at least 4, half of it below {far} distances, found {}",
            buckets.unwrap_or(0)
        )));
    }
    let norm = config.text("norm_rel_ebd")?.unwrap_or("none");
    Ok(DisentangledSpec {
        span: buckets.unwrap_or(far),
        far: buckets.map(|_| far),
        query: kinds.contains(&"c2p"),
        key: kinds.contains(&"p2c"),
        shared: config.flag_or("share_att_key", false)?,
        norm: norm.to_lowercase().split('|').any(|step| step.trim() == "layer_norm"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Value {
        json!({"model_type": "deberta-v2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6,
            "intermediate_size": 1536, "hidden_act": "gelu", "layer_norm_eps": 1e-7, "vocab_size": 128100,
            "max_position_embeddings": 512, "max_relative_positions": -1, "position_buckets": 256,
            "relative_attention": true, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
            "share_att_key": true, "position_biased_input": false, "type_vocab_size": 0})
    }

    #[test]
    fn deberta_v3_xsmall_has_its_known_number_of_parameters() {
        let (blueprint, _) = parse(&config()).unwrap();
        assert_eq!(blueprint.parameters(), 70_682_112);
        assert_eq!(blueprint.attention.scale, (1.0 / 192f64.sqrt()) as f32);
        let Some(PositionBias::Disentangled(spec)) = blueprint.attention.bias else { panic!("rows of distances") };
        assert_eq!((spec.span, spec.far, spec.query && spec.key && spec.shared && spec.norm), (256, Some(512), true));
    }

    #[test]
    fn what_is_not_done_is_refused_by_key() {
        for (key, value) in [
            ("conv_kernel_size", json!(3)),
            ("embedding_size", json!(128)),
            ("pos_att_type", json!("p2c|p2p")),
            ("pos_att_type", json!(3)),
            ("position_buckets", json!(2)),
            ("position_buckets", json!(2000)),
        ] {
            let mut config = config();
            config[key] = value;
            let e = parse(&config).unwrap_err();
            assert!(e.message().starts_with(&format!("{key}: ")), "{e}");
        }
    }
}
