//! The vector of a text is bitwise the same alone, in any batch, in any order, at any thread count, in every precision.

use embral::{Config, Embedder, Embeddings, Precision};
use embral_testkit::golden::Golden;

const TEXTS: [&str; 13] = [
    "a cat sat on the mat",
    "",
    "ein Hund",
    "one",
    "the quick brown fox jumps over the lazy dog and then the dog jumps over the fox, again and again",
    "   ",
    "numbers 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37",
    "東京",
    "a\u{0}b",
    "x y z",
    "a <pad> b <pad><pad> c",
    "long long long long long long long long long long long long long long long long long long long long text",
    "a cat sat on the mat",
];

/// A model in one precision, and the golden that it is, whose folder may be a temporary one.
struct Model {
    config: Config,
    _golden: Option<Golden>,
}

/// Those of some goldens, each in every precision that it has.
fn models_of(names: &[String]) -> impl Iterator<Item = Model> {
    names.iter().flat_map(|name| {
        let precisions = if name.starts_with("static") { &Precision::ALL[..1] } else { &Precision::ALL };
        precisions.iter().map(move |&precision| {
            let golden = Golden::load(name);
            let config = Config { precision, ..Config::model(golden.folder.to_str().unwrap()) };
            Model { config, _golden: Some(golden) }
        })
    })
}

/// All of them.
fn models() -> impl Iterator<Item = Model> {
    let names = Golden::names();
    models_of(&names).collect::<Vec<_>>().into_iter()
}

/// Three that are as different as they come, and the default model: for what is about batches rather than about blocks.
fn few() -> impl Iterator<Item = Model> {
    let names = ["static_f32", "tiny_bert", "tiny_qwen3"].map(str::to_owned);
    let default = cfg!(feature = "default-model").then(|| Model { config: Config::default(), _golden: None });
    models_of(&names).chain(default).collect::<Vec<_>>().into_iter()
}

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|x| x.to_bits()).collect()
}

fn rows_of(config: &Config) -> Embeddings {
    Embedder::with_config(config.clone()).unwrap().embed_batch(&TEXTS).unwrap()
}

#[test]
fn alone_equals_in_company() {
    for Model { config, _golden } in models() {
        let embedder = Embedder::with_config(config).unwrap();
        let together = embedder.embed_batch(&TEXTS).unwrap();
        for (i, text) in TEXTS.iter().enumerate() {
            let alone = embedder.embed(text).unwrap();
            assert_eq!(bits(&alone), bits(together.row(i)), "{}: {text:?}", embedder.info().name);
        }
    }
}

#[test]
fn order_does_not_matter() {
    for Model { config, _golden } in models() {
        let embedder = Embedder::with_config(config).unwrap();
        let forward = embedder.embed_batch(&TEXTS).unwrap();
        let reversed: Vec<&str> = TEXTS.iter().rev().copied().collect();
        let backward = embedder.embed_batch(&reversed).unwrap();
        for i in 0..TEXTS.len() {
            assert_eq!(bits(forward.row(i)), bits(backward.row(TEXTS.len() - 1 - i)));
        }
        let many: Vec<&str> = TEXTS.iter().cycle().take(TEXTS.len() * 8 + 5).copied().collect();
        for (i, row) in embedder.embed_batch(&many).unwrap().rows().enumerate() {
            assert_eq!(bits(row), bits(forward.row(i % TEXTS.len())));
        }
    }
}

#[test]
fn threads_and_batch_size_do_not_matter() {
    for Model { config, _golden } in models() {
        let reference = rows_of(&Config { threads: Some(1), ..config.clone() });
        for threads in [2, 3, 5] {
            for batch_tokens in [1, 33, 4096] {
                let rows = rows_of(&Config { threads: Some(threads), batch_tokens, ..config.clone() });
                assert_eq!(
                    bits(rows.as_slice()),
                    bits(reference.as_slice()),
                    "{threads} threads, {batch_tokens} tokens"
                );
            }
        }
    }
}

/// Small batches make many windows of texts, each tokenised while the one before is computed.
#[test]
fn a_long_call_equals_many_short_ones() {
    for Model { config, _golden } in few() {
        let short = rows_of(&config);
        let many: Vec<&str> = TEXTS.iter().cycle().take(5003).copied().collect();
        for threads in [1, 3] {
            let embedder =
                Embedder::with_config(Config { threads: Some(threads), batch_tokens: 100, ..config.clone() }).unwrap();
            for (i, row) in embedder.embed_batch(&many).unwrap().rows().enumerate() {
                assert_eq!(bits(row), bits(short.row(i % TEXTS.len())), "{threads} threads, text {i}");
            }
            let profile = embedder.profile();
            assert_eq!(profile.tokens, embedder.count_tokens(&many).unwrap().iter().sum::<usize>());
            assert!(profile.tokenize_work_ms > 0.0);
            let stages = [profile.pack_ms, profile.inference_ms, profile.pool_ms, profile.normalize_ms];
            assert!(profile.tokenize_ms + stages.iter().sum::<f64>() <= profile.total_ms, "{profile:?}");
        }
    }
}

#[test]
fn calls_at_the_same_time_give_the_same() {
    for Model { config, _golden } in few() {
        let embedder = Embedder::with_config(config).unwrap();
        let reference = embedder.embed_batch(&TEXTS).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let rows = embedder.embed_batch(&TEXTS).unwrap();
                        assert_eq!(bits(rows.as_slice()), bits(reference.as_slice()));
                    }
                });
            }
        });
    }
}
