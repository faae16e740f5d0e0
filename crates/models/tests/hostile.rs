//! Configuration files of any content: a result or an error, never a panic.

use embral_models::{Positions, Prompts, Role, parse_config, parse_dense, parse_modules, parse_pooling};
use embral_testkit::golden::Golden;
use proptest::prelude::*;
use std::{fs, path::Path};

/// JSON that is near to what the parsers know: their keys, and values of every type and size.
fn near_json() -> impl Strategy<Value = serde_json::Value> {
    let keys = [
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "intermediate_size",
        "max_position_embeddings",
        "hidden_act",
        "rope_scaling",
        "rope_parameters",
        "rope_theta",
        "layer_types",
        "pooling_mode",
        "pooling_mode_cls_token",
        "embedding_dimension",
        "in_features",
        "out_features",
        "activation_function",
        "type",
        "path",
        "prompts",
        "default_prompt_name",
        "rope_type",
        "factor",
        "sliding_window",
        "use_sliding_window",
        "position_embedding_type",
        "feed_forward_type",
        "position_buckets",
        "relative_attention",
        "pos_att_type",
        "moe_every_n_layers",
        "num_experts",
        "moe_top_k",
        "n_embd",
        "n_head",
        "n_layer",
        "local_attention",
        "pad_token_id",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (0..70_000u64).prop_map(Into::into),
        (1..33u64).prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        proptest::sample::select(vec![
            "bert",
            "qwen3",
            "roberta",
            "mpnet",
            "deberta-v2",
            "nomic_bert",
            "modernbert",
            "gemma3_text",
            "mistral",
            "alibi",
            "geglu",
            "c2p|p2c",
            "yarn",
            "llama3",
            "gelu",
            "silu",
            "default",
            "cls",
            "a.Dense",
            "../x",
            "torch.nn.Tanh"
        ])
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 40, 20, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(proptest::sample::select(keys.to_vec()), inner, 0..20).prop_map(|map| map
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

fn parse_all(json: &[u8]) {
    if let Ok((_, blueprint, names)) = parse_config(json) {
        assert!(blueprint.hidden > 0 && blueprint.layers > 0 && blueprint.attention.head_dim > 0);
        assert!(blueprint.attention.heads.is_multiple_of(blueprint.attention.kv_heads));
        assert!(matches!(blueprint.embedding.positions, Positions::None | Positions::Learned { rows: 1.., .. }));
        assert!(!names.weight(Role::Word, 0).is_empty() && blueprint.parameters() > 0);
    }
    let _ = parse_modules(json);
    let _ = parse_pooling(json);
    let _ = parse_dense(json, Path::new("d"));
    if let Ok(prompts) = Prompts::parse(json) {
        assert!(prompts.default.is_none_or(|name| prompts.prompts.contains_key(&name)));
    }
}

/// Every configuration of a golden, and one of each other file.
fn files() -> Vec<String> {
    let configs = Golden::names().into_iter().map(|name| format!("{name}/config.json"));
    let others = [
        "tiny_bert_dense/modules.json",
        "tiny_bert/1_Pooling/config.json",
        "tiny_bert_dense/config_sentence_transformers.json",
    ];
    configs.filter(|name| Golden::root().join(name).is_file()).chain(others.map(str::to_owned)).collect()
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,100}") {
        parse_all(&bytes);
        parse_all(text.as_bytes());
    }

    #[test]
    fn no_json_makes_a_parser_panic(value in near_json()) {
        parse_all(value.to_string().as_bytes());
    }

    #[test]
    fn no_damage_to_a_real_configuration_makes_a_parser_panic(
        name in proptest::sample::select(files()),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = fs::read(Golden::root().join(&name)).unwrap();
        for (at, to) in damage {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        parse_all(&bytes);
    }
}
