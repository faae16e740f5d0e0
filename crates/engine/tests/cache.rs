//! Vectors out of the cache are those of the model, bit for bit, and never those of other settings.

#![cfg(feature = "vector-cache")]

use embral::{Config, Embedder, Embeddings, Pooling, Precision, Prompt, Truncation, cache::VectorCache};
use embral_testkit::golden::Golden;
use std::{fs, path::Path};

const TEXTS: [&str; 6] = ["a cat", "", "a dog sat on the mat", "a cat", "ein Hund über den Straßen", "a dog"];

fn open(model: &Path, folder: Option<&Path>, config: Config) -> Embedder {
    let model = Some(model.to_str().unwrap().to_owned());
    Embedder::with_config(Config { model, vector_cache: folder.map(VectorCache::in_folder), ..config }).unwrap()
}

fn bits(rows: &Embeddings) -> Vec<u32> {
    rows.as_slice().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn vectors_are_the_same_bits_computed_kept_and_of_another_process() {
    for model in ["tiny_bert", "tiny_qwen3", "static_f32", "tiny_bert_dense"] {
        let golden = Golden::load(model);
        for precision in Precision::ALL {
            if model == "static_f32" && precision != Precision::F32 {
                continue;
            }
            let home = tempfile::tempdir().unwrap();
            let config = || Config { precision, threads: Some(2), ..Config::default() };
            let wanted = bits(&open(&golden.folder, None, config()).embed_batch(&TEXTS).unwrap());
            let first = open(&golden.folder, Some(home.path()), config());
            let dims = first.dimensions();
            // Some are kept before the others are computed, in another company.
            first.embed_batch(&TEXTS[4..]).unwrap();
            assert_eq!(bits(&first.embed_batch(&TEXTS).unwrap()), wanted, "{model} {precision}");
            assert_eq!((first.profile().cached, first.profile().texts), (2, 6));
            assert_eq!(bits(&first.embed_batch(&TEXTS).unwrap()), wanted, "{model} {precision}");
            let again =
                open(&golden.folder, Some(home.path()), Config { threads: Some(1), batch_tokens: 7, ..config() });
            assert_eq!(bits(&again.embed_batch(&TEXTS).unwrap()), wanted, "{model} {precision}");
            assert_eq!((again.profile().cached, again.profile().tokens), (6, 0));
            assert_eq!(again.embed(TEXTS[2]).unwrap().len(), dims);
        }
    }
}

#[test]
fn no_setting_takes_the_vectors_of_another() {
    let golden = Golden::load("tiny_bert");
    let home = tempfile::tempdir().unwrap();
    let settings = [
        Config::default(),
        Config { precision: Precision::Bf16, ..Config::default() },
        Config { precision: Precision::Int8, ..Config::default() },
        Config { pooling: Some(Pooling::Max), ..Config::default() },
        Config { pooling: Some(Pooling::Last), ..Config::default() },
        Config { dims: Some(8), ..Config::default() },
        Config { normalize: Some(false), ..Config::default() },
        Config { max_tokens: Some(5), ..Config::default() },
        Config { max_tokens: Some(5), truncation: Truncation::Left, ..Config::default() },
    ];
    let prompts = [Prompt::None, Prompt::Text("query: "), Prompt::Text("query:")];
    for config in &settings {
        for prompt in prompts {
            let alone = open(&golden.folder, None, config.clone());
            let wanted = bits(&alone.embed_batch_as(&TEXTS[2..3], prompt).unwrap());
            let embedder = open(&golden.folder, Some(home.path()), config.clone());
            for cached in [0, 1] {
                assert_eq!(bits(&embedder.embed_batch_as(&TEXTS[2..3], prompt).unwrap()), wanted);
                assert_eq!(embedder.profile().cached, cached, "{prompt:?} {config:?}");
            }
        }
    }
    // The defaults of the model, named.
    let info = open(&golden.folder, None, Config::default()).info().clone();
    let named = Config {
        dims: Some(info.dimensions),
        pooling: Some(info.pooling),
        normalize: Some(info.normalize),
        max_tokens: Some(info.max_tokens),
        ..Config::default()
    };
    let embedder = open(&golden.folder, Some(home.path()), named);
    embedder.embed_batch_as(&TEXTS[2..3], Prompt::None).unwrap();
    assert_eq!(embedder.profile().cached, 1);
}

#[test]
fn weights_that_change_under_their_name_are_another_model() {
    let golden = Golden::load("static_f32");
    let (home, model) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for entry in fs::read_dir(&golden.folder).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
        fs::copy(entry.path(), model.path().join(entry.file_name())).unwrap();
    }
    let embed = || {
        let embedder = open(model.path(), Some(home.path()), Config::default());
        (embedder.embed(TEXTS[2]).unwrap(), embedder.profile().cached)
    };
    let (first, cached) = embed();
    assert_eq!((cached, embed().1), (0, 1));
    let weights = model.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[header..].chunks_exact_mut(8).for_each(|pair| pair[3] ^= 0x80);
    fs::write(&weights, bytes).unwrap();
    let (other, cached) = embed();
    assert_eq!(cached, 0);
    assert_ne!(first, other);
}

#[test]
fn memory_alone_is_of_one_embedder() {
    let golden = Golden::load("static_f32");
    let config = || Config { vector_cache: Some(VectorCache::default()), ..Config::default() };
    let model = golden.folder.to_str().unwrap().to_owned();
    let open = || Embedder::with_config(Config { model: Some(model.clone()), ..config() }).unwrap();
    let embedder = open();
    let first = bits(&embedder.embed_batch(&TEXTS).unwrap());
    assert_eq!(embedder.profile().cached, 0);
    assert_eq!(bits(&embedder.embed_batch(&TEXTS).unwrap()), first);
    assert_eq!((embedder.profile().cached, open().profile().cached), (6, 0));
}

#[test]
fn many_threads_share_one_cache() {
    let golden = Golden::load("tiny_bert");
    let home = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..60).map(|i| format!("a cat sat on {i}")).collect();
    let wanted = bits(&open(&golden.folder, None, Config::default()).embed_batch(&texts).unwrap());
    let embedder = open(&golden.folder, Some(home.path()), Config::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for from in (0..60).step_by(7) {
                    let rows = embedder.embed_batch(&texts[from..]).unwrap();
                    assert_eq!(bits(&rows), wanted[from * rows.dim()..]);
                }
            });
        }
    });
    assert_eq!(embral::cache::VectorFolder::new(home.path()).vectors().unwrap(), 60);
}

#[test]
fn an_error_names_the_text_of_the_caller() {
    let golden = Golden::load("tiny_bert");
    let home = tempfile::tempdir().unwrap();
    let embedder =
        open(&golden.folder, Some(home.path()), Config { truncation: Truncation::Error, ..Config::default() });
    embedder.embed_batch(&["a", "b"]).unwrap();
    let long = "cat ".repeat(60);
    let error = embedder.embed_batch(&["a", "new", "b", &long]).unwrap_err();
    assert!(error.to_string().contains("text 3:"), "{error}");
}
