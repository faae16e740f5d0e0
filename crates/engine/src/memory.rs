//! How much memory a model takes, found out without reading its weights.

use crate::{Config, config::BATCH_TOKENS, embedder::locate};
use embral_cpu::Linear;
use embral_formats::Weights;
use embral_models::{Blueprint, Entry, Head, HeadLayer, ModelFolder, Network, NormPlace, PositionBias, SparseSpec};
use embral_types::{Dtype, Precision, Result};

/// What a model takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of the weights as they are kept, in each precision that the model can be computed in. Where packed weights are kept on
    /// disk, those of bf16 and int8 are pages of that file, which the system may drop and read again.
    pub weights: Vec<(Precision, usize)>,
    /// What a batch of the usual size takes besides; `None` where a text needs no more than its tokens.
    pub batch: Option<Work>,
    /// What the longest text takes, where it is longer than a batch.
    pub longest: Option<Work>,
    /// Whether this is made of the number of parameters alone, and not of the model's own shapes.
    pub estimated: bool,
}

/// The rows between layers, which are there while texts are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Tokens computed together.
    pub tokens: usize,
    /// Bytes of their rows.
    pub bytes: usize,
}

const FLOAT: usize = size_of::<f32>();

/// Memory of the model that `config` names, of which the configuration files and the header of the weights are read; `None` of an exported
/// graph, of which its runtime alone knows.
///
/// # Errors
/// Where the model is not found, and where its files cannot be read.
pub fn of(config: &Config) -> Result<Option<Memory>> {
    let Some(name) = config.named() else { return default_model().map(Some) };
    let folder = ModelFolder::read_with(&locate(name, config)?, &config.onnx)?;
    match &folder.network {
        Network::Graph(_) => Ok(None),
        Network::Static(spec) => {
            let weights = folder.open_weights()?;
            Ok(Some(fixed(table(&*weights, &spec.table)? + heads(&folder, &*weights)?)))
        }
        Network::Transformer { blueprint, .. } => {
            let heads = heads(&folder, &*folder.open_weights()?)?;
            let vocabulary = match &folder.outputs.sparse {
                Some(SparseSpec::Terms { .. }) => blueprint.vocab,
                _ => 0,
            };
            let of = |precision| {
                let decoder = Linear::bytes(precision, vocabulary, blueprint.hidden, false);
                (precision, encoder(blueprint, precision) + decoder + heads)
            };
            let row = row(blueprint);
            let limit = config.max_tokens.or(folder.max_tokens).unwrap_or(blueprint.max_positions);
            let work = work(row, config.batch_tokens, Some(limit));
            Ok(Some(Memory { weights: Precision::ALL.map(of).to_vec(), ..work }))
        }
    }
}

/// Memory by the numbers of parameters that the catalogue has; `None` where it has none. Rows are taken to be as BERT's.
pub fn estimate(entry: &Entry) -> Option<Memory> {
    let values = |millions: f32| (f64::from(millions) * 1e6) as usize;
    let all = values(entry.parameters?);
    let (Some(hidden), Some(table)) = (entry.hidden, entry.table_parameters.map(values)) else {
        let megabytes = entry.size_mb.filter(|_| entry.architecture.as_deref() == Some("static"));
        let weights = megabytes.map_or(FLOAT * all, |size| size as usize * 1_000_000);
        return Some(Memory { estimated: true, ..fixed(weights) });
    };
    let of = |precision: Precision| {
        let bytes = match precision {
            Precision::F32 => FLOAT,
            Precision::Bf16 => 2,
            Precision::Int8 => 1,
        };
        (precision, FLOAT * table + bytes * all.saturating_sub(table))
    };
    // Row, query, key and value, heads, and four times the row in the perceptron.
    let row = 9 * hidden;
    let work = work(row, BATCH_TOKENS, entry.max_tokens);
    Some(Memory { weights: Precision::ALL.map(of).to_vec(), estimated: true, ..work })
}

/// A model that is looked up, and so is what it is in any precision.
fn fixed(weights: usize) -> Memory {
    Memory { weights: vec![(Precision::F32, weights)], batch: None, longest: None, estimated: false }
}

fn work(row: usize, tokens: usize, limit: Option<usize>) -> Memory {
    let of = |tokens| Work { tokens, bytes: FLOAT * row * tokens };
    let longest = limit.filter(|&limit| limit > tokens).map(of);
    Memory { weights: Vec::new(), batch: Some(of(tokens)), longest, estimated: false }
}

#[cfg(feature = "default-model")]
fn default_model() -> Result<Memory> {
    let files = &crate::default_model::FILES;
    let weights = embral_formats::safetensors::SafetensorsFile::from_bytes("the default model", files.weights)?;
    Ok(fixed(table(&weights, "embeddings")?))
}

#[cfg(not(feature = "default-model"))]
fn default_model() -> Result<Memory> {
    crate::Embedder::open_default().map(|_| fixed(0))
}

/// Every tensor of a static model; all but `rows` are kept in 32 bits, and those too where a kernel does not read them as stored.
fn table(weights: &dyn Weights, rows: &str) -> Result<usize> {
    let bytes = |name: &String| {
        let tensor = weights.get(name)?;
        let as_stored = name == rows && matches!(tensor.dtype(), Dtype::I8 | Dtype::F16);
        Ok(if as_stored { tensor.bytes().len() } else { FLOAT * tensor.len() })
    };
    weights.names().iter().map(bytes).sum()
}

/// The matrices of each block, packed; everything else as f32.
fn encoder(b: &Blueprint, precision: Precision) -> usize {
    let (packed, values) = matrices(b, precision);
    let others = usize::try_from(b.parameters()).unwrap_or(usize::MAX).saturating_sub(values);
    packed + FLOAT * (others + distances(b))
}

/// The matrices of all blocks: their bytes, packed, and their numbers.
fn matrices(b: &Blueprint, precision: Precision) -> (usize, usize) {
    let (a, mlp) = (&b.attention, &b.mlp);
    let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
    let (mut packed, mut values) = (0, 0);
    for layer in 0..b.layers {
        let (gated, count) = mlp.experts_of(layer).map_or((mlp.gated, 1), |experts| (false, experts.count));
        for (outputs, inputs, gated, count) in [
            (q + 2 * kv, b.hidden, false, 1),
            (b.hidden, q, false, 1),
            (mlp.width, b.hidden, gated, count),
            (b.hidden, mlp.width, false, count),
        ] {
            packed += count * Linear::bytes(precision, outputs, inputs, gated);
            values += count * outputs * inputs * (1 + usize::from(gated));
        }
    }
    (packed, values)
}

/// Numbers that are made of the distances between tokens when the model is opened.
fn distances(b: &Blueprint) -> usize {
    let a = &b.attention;
    let reach = b.max_positions.saturating_sub(1);
    match a.bias {
        Some(PositionBias::Alibi) => a.heads * (2 * reach + 1),
        Some(PositionBias::Learned { far, .. }) => a.heads * (2 * reach.min(far) + 1),
        Some(PositionBias::Disentangled(spec)) => {
            let rows = (usize::from(spec.query) + usize::from(spec.key)) * 2 * spec.span * a.heads * a.head_dim;
            b.layers * (rows + 2 * reach + 1)
        }
        None => 0,
    }
}

/// Layers over a pooled row or over token rows, which are f32 in any precision.
fn heads(folder: &ModelFolder, weights: &dyn Weights) -> Result<usize> {
    let dense = |outputs, inputs| Linear::bytes(Precision::F32, outputs, inputs, false) + FLOAT * outputs;
    let of_file = |head: &Head| match head {
        Head::Dense(layer) => dense(layer.outputs, layer.inputs),
        Head::LayerNorm { width, .. } => 2 * FLOAT * width,
        Head::Normalize => 0,
    };
    let outputs = &folder.outputs;
    let token_layers = outputs.multi_vector.iter().flat_map(|spec| &spec.heads);
    let mut bytes: usize = folder.heads.iter().chain(token_layers).map(of_file).sum();
    let mut names: Vec<&str> = Vec::new();
    for layer in outputs.classifier.iter().flat_map(|spec| &spec.layers) {
        match layer {
            HeadLayer::Dense { name, .. } | HeadLayer::Norm { name, .. } => names.push(name),
        }
    }
    if let Some(SparseSpec::Terms { head, .. }) = &outputs.sparse {
        names.push(head.dense);
    }
    for name in names {
        bytes += match weights.get(&format!("{name}.weight"))?.shape() {
            &[outputs, inputs] => dense(outputs, inputs),
            other => 2 * FLOAT * other.iter().product::<usize>(),
        };
    }
    Ok(bytes)
}

/// Numbers that a token has between layers at the same time.
fn row(b: &Blueprint) -> usize {
    let a = &b.attention;
    let branch = match b.norm_place {
        NormPlace::Post => 0,
        NormPlace::Pre | NormPlace::Both | NormPlace::PostTwice => b.hidden,
    };
    let sum = if b.mlp.experts.is_some() { b.hidden } else { 0 };
    b.hidden + (2 * a.heads + 2 * a.kv_heads) * a.head_dim + b.mlp.width + branch + sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_cpu::{Cpu, Kept, PackedWeights};
    use embral_forward::Transformer;
    use embral_models::catalogue;
    use embral_testkit::{golden::Golden, tasks::TaskGolden};

    /// What the file of packed weights has for each matrix besides its bytes: where it is, and room to the next line.
    const OVERHEAD: usize = 256;

    #[test]
    fn the_matrices_that_are_counted_are_those_that_are_packed() {
        for name in ["tiny_bert", "tiny_qwen3", "tiny_nomic_bert", "tiny_jina_bert_code", "tiny_mpnet", "gguf_bert"] {
            let golden = Golden::load(name);
            let folder = ModelFolder::read(&golden.folder).unwrap();
            let Network::Transformer { blueprint, names, .. } = &folder.network else { panic!("{name}") };
            let weights = folder.open_weights().unwrap();
            for precision in Precision::ALL {
                let at = tempfile::tempdir().unwrap();
                let packed = PackedWeights::open(at.path().join("x"), precision);
                let mut cpu = Cpu::new(Some(1)).with_packed(packed);
                Transformer::load(&cpu, blueprint, names, &*weights, &precision.into()).unwrap();
                let Some(Ok(Kept::Written(written))) = cpu.keep_packed() else { panic!("{name}") };
                let written = written as usize;
                let (counted, _) = matrices(blueprint, precision);
                let room = OVERHEAD * (1 + 4 * blueprint.layers);
                assert!(counted <= written && written <= counted + room, "{name} in {precision}: {counted}, {written}");
            }
        }
    }

    #[test]
    fn all_minilm_takes_what_its_shapes_say_and_the_estimate_is_near() {
        let config = serde_json::json!({"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6,
            "num_attention_heads": 12, "intermediate_size": 1536, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
            "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2});
        let (_, blueprint, _) = embral_models::parse_config(config.to_string().as_bytes()).unwrap();
        assert_eq!(row(&blueprint), 384 + 4 * 384 + 1536);
        let entry = catalogue::find("all-MiniLM-L6-v2").unwrap();
        let estimated = estimate(entry).unwrap();
        assert!(estimated.estimated && estimated.longest.is_none());
        for (precision, bytes) in estimated.weights {
            let exact = encoder(&blueprint, precision);
            assert!(exact.abs_diff(bytes) < exact / 50, "{precision}: {exact} and {bytes}");
        }
        assert_eq!(estimated.batch.unwrap().bytes, FLOAT * 9 * 384 * BATCH_TOKENS);
    }

    #[test]
    fn a_model_has_one_size_for_each_precision_that_it_has() {
        let at = |folder: &std::path::Path| super::of(&Config::model(folder.to_str().unwrap())).unwrap().unwrap();
        let of = |name: &str| at(&Golden::load(name).folder);
        let other = |name: &str| at(&TaskGolden::load(name).folder());
        let plain = ["tiny_bert", "tiny_nomic_moe", "tiny_deberta_v2"].map(|name| (name, of(name)));
        let tasks = ["tiny_splade", "tiny_reranker", "tiny_colbert"].map(|name| (name, other(name)));
        for (name, memory) in plain.into_iter().chain(tasks) {
            assert_eq!(memory.weights.iter().map(|w| w.0).collect::<Vec<_>>(), Precision::ALL, "{name}");
            assert!(memory.batch.is_some_and(|b| b.bytes > 0) && !memory.estimated, "{name}");
        }
        let table = of("static_i8");
        assert_eq!((table.weights.len(), table.batch), (1, None));
        assert!(table.weights[0].1 < of("static_f32").weights[0].1);
    }

    #[test]
    #[cfg(feature = "default-model")]
    fn the_default_model_is_its_table() {
        let memory = super::of(&Config::default()).unwrap().unwrap();
        let files = &crate::default_model::FILES;
        assert!(memory.weights[0].1.abs_diff(files.weights.len()) < files.weights.len() / 20, "{memory:?}");
    }
}
