//! Which files a model needs, told from the names in a folder, an archive or a repository. Choosing them is for what fetches or
//! imports models; whether a folder has them is asked in every build.

use embral_models::OnnxChoice;

/// Where the weights of a list of files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// `model.safetensors`.
    One,
    /// `model.safetensors.index.json` and its shards.
    Sharded,
    /// In an ONNX graph.
    Graph,
    /// Only in formats that are not read, such as `pytorch_model.bin`.
    Foreign,
    /// Nowhere.
    None,
}

#[cfg(any(test, feature = "hub", feature = "import"))]
const ROOT: [&str; 15] = [
    "added_tokens.json",
    "artifact.metadata",
    "colbert_linear.pt",
    "colbert_linear.safetensors",
    "config.json",
    "config_sentence_transformers.json",
    "merges.txt",
    "modules.json",
    "sparse_linear.pt",
    "sparse_linear.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];

/// The graphs that need no name.
const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

pub(crate) const ONE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Whether a path within a model is made of plain parts, below the root, and safe in an address and in a file system.
#[cfg(any(test, feature = "hub", feature = "import"))]
pub(crate) fn is_plain(path: &str) -> bool {
    path.len() <= 256
        && path.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        })
}

#[cfg(any(test, feature = "hub", feature = "import"))]
fn is_shard(name: &str) -> bool {
    let middle = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    middle.and_then(|m| m.split_once("-of-")).is_some_and(|(a, b)| number(a) && number(b))
}

/// A folder of a sentence-transformers module: `1_Pooling`.
fn is_module(folder: &str) -> bool {
    let digits = folder.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && folder.as_bytes().get(digits) == Some(&b'_')
}

fn of_module(path: &str) -> Option<&str> {
    let (folder, name) = path.rsplit_once('/')?;
    is_module(folder).then_some(name)
}

/// Where the weights are among `names`, which are paths from the model's folder. A module folder such as `0_Transformer` or
/// `0_StaticEmbedding` counts.
pub(crate) fn weights(names: &[&str]) -> Weights {
    let base = |wanted: &str| {
        names.iter().any(|path| *path == wanted || path.starts_with("0_") && of_module(path) == Some(wanted))
    };
    let foreign = [".bin", ".onnx", ".gguf", ".h5", ".msgpack", ".pt", ".ot"];
    if base(ONE) {
        Weights::One
    } else if base(INDEX) {
        Weights::Sharded
    } else if names.iter().any(|path| GRAPHS.contains(path)) {
        Weights::Graph
    } else if names.iter().any(|path| foreign.iter().any(|end| path.ends_with(end))) {
        Weights::Foreign
    } else {
        Weights::None
    }
}

/// The graph among `names` that `choice` means.
pub(crate) fn graph<'a>(names: &[&'a str], choice: &OnnxChoice) -> Option<&'a str> {
    let find = |wanted: &str| names.iter().copied().find(|path| *path == wanted);
    match choice {
        OnnxChoice::IfAlone if weights(names) != Weights::Graph => None,
        OnnxChoice::IfAlone | OnnxChoice::Always => GRAPHS.iter().find_map(|graph| find(graph)),
        OnnxChoice::File(file) => {
            let file = file.to_str()?.replace('\\', "/");
            find(&file).or_else(|| find(&format!("onnx/{file}")))
        }
    }
}

/// The files of `names` that the engine reads: configurations, tokeniser, weights, and the same of every module folder. Where
/// there is one weight file, shards are left out; a graph comes with the files of its constants, and alone where it is named.
#[cfg(any(test, feature = "hub", feature = "import"))]
pub(crate) fn needed<'a>(names: &[&'a str], choice: &OnnxChoice) -> Vec<&'a str> {
    let one = weights(names) == Weights::One;
    let graph = graph(names, choice);
    let of_graph = |name: &str| {
        let rest = graph.and_then(|graph| name.strip_prefix(graph));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("_data") || rest.starts_with(".data"))
    };
    let wanted = |name: &str| {
        ROOT.contains(&name)
            || name.starts_with("sentence_") && name.ends_with("_config.json")
            || name == ONE
            || of_graph(name)
            || !one && (name == INDEX || is_shard(name))
    };
    let mut files: Vec<&str> = names
        .iter()
        .copied()
        .filter(|path| is_plain(path) && (wanted(path) || of_module(path).is_some_and(wanted)))
        .collect();
    files.sort_unstable();
    files.dedup();
    files
}

/// What `names` lack to be a whole model, in words; empty where nothing is missing.
pub(crate) fn missing(names: &[&str], choice: &OnnxChoice) -> Vec<&'static str> {
    let has = |wanted: &str| names.iter().any(|path| *path == wanted || path.ends_with(&format!("/{wanted}")));
    let mut missing = vec![];
    match graph(names, choice) {
        Some(_) => {}
        None if choice.is_named() => missing.push("the ONNX graph"),
        None if matches!(weights(names), Weights::One | Weights::Sharded) => {}
        None => missing.push(ONE),
    }
    let byte_pairs = has("vocab.json") && has("merges.txt");
    if !(has("tokenizer.json") || has("vocab.txt") || byte_pairs) {
        missing.push("tokenizer.json");
    }
    // A bare static embedding is weights and tokeniser alone; a model of one tokeniser and sharded weights is not.
    if graph(names, choice).is_none()
        && !has("config.json")
        && !has("modules.json")
        && !has("config_sentence_transformers.json")
    {
        missing.push("config.json");
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_is_taken() {
        let names = [
            ".gitattributes",
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "2_Dense/pytorch_model.bin",
            "README.md",
            "config.json",
            "model.safetensors",
            "modules.json",
            "onnx/model.onnx",
            "openvino/config.json",
            "pytorch_model.bin",
            "sentence_bert_config.json",
            "tokenizer.json",
            "../tokenizer.json",
            "model-00001-of-00002.safetensors",
        ];
        assert_eq!(
            needed(&names, &OnnxChoice::IfAlone),
            [
                "1_Pooling/config.json",
                "2_Dense/config.json",
                "2_Dense/model.safetensors",
                "config.json",
                "model.safetensors",
                "modules.json",
                "sentence_bert_config.json",
                "tokenizer.json",
            ]
        );
        assert!(missing(&names, &OnnxChoice::IfAlone).is_empty());
    }

    #[test]
    fn graphs_come_where_they_are_asked_for_or_alone() {
        let graphs = ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_O2.onnx", "onnx/model.onnx.md"];
        let with = |more: &[&'static str]| [&["config.json", "tokenizer.json"], &graphs[..], more].concat();
        let (both, alone) = (with(&[ONE]), with(&[]));
        let graphs = |names: &[&'static str], choice: &OnnxChoice| -> Vec<&'static str> {
            needed(names, choice).into_iter().filter(|name| name.contains("onnx")).collect()
        };
        let named = |name: &str| OnnxChoice::File(name.into());
        let whole = ["onnx/model.onnx", "onnx/model.onnx_data"];
        assert!(graphs(&both, &OnnxChoice::IfAlone).is_empty());
        assert_eq!(graphs(&both, &OnnxChoice::Always), whole);
        assert_eq!(graphs(&alone, &OnnxChoice::IfAlone), whole);
        for name in ["model_O2.onnx", "onnx/model_O2.onnx"] {
            assert_eq!(graphs(&both, &named(name)), ["onnx/model_O2.onnx"]);
        }
        assert_eq!((weights(&alone), missing(&alone, &OnnxChoice::IfAlone)), (Weights::Graph, vec![]));
        assert_eq!(missing(&both, &named("model_O3.onnx")), ["the ONNX graph"]);
        assert_eq!(missing(&["onnx/model.onnx"], &OnnxChoice::Always), ["tokenizer.json"]);
    }

    #[test]
    fn weights_are_found_in_each_layout() {
        let sharded = ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "config.json"];
        assert_eq!((weights(&sharded), needed(&sharded, &OnnxChoice::IfAlone).len()), (Weights::Sharded, 3));
        assert_eq!(weights(&["0_StaticEmbedding/model.safetensors"]), Weights::One);
        assert_eq!(weights(&["2_Dense/model.safetensors", "pytorch_model.bin"]), Weights::Foreign);
        assert_eq!(weights(&["config.json"]), Weights::None);
        assert_eq!(
            missing(&["config.json", "pytorch_model.bin"], &OnnxChoice::IfAlone),
            ["model.safetensors", "tokenizer.json"]
        );
        assert!(!is_shard("model-x-of-1.safetensors") && is_shard("model-1-of-1.safetensors"));
    }
}
