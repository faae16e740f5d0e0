//! The vector of a text is bitwise the same alone, in any batch, in any order, at any thread count, in every precision.

use embral::{Config, Embedder, Embeddings, Precision};

const TEXTS: [&str; 12] = [
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
    "long long long long long long long long long long long long long long long long long long long long text",
    "a cat sat on the mat",
];

fn models() -> Vec<Config> {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let model = |name: &str| Config::model(golden.join(name).to_str().unwrap());
    let mut models = vec![model("static_f32")];
    for precision in Precision::ALL {
        models.extend(["tiny_bert", "tiny_qwen3"].map(|name| Config { precision, ..model(name) }));
    }
    if cfg!(feature = "default-model") {
        models.push(Config::default());
    }
    models
}

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|x| x.to_bits()).collect()
}

fn rows_of(config: &Config) -> Embeddings {
    Embedder::with_config(config.clone()).unwrap().embed_batch(&TEXTS).unwrap()
}

#[test]
fn alone_equals_in_company() {
    for config in models() {
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
    for config in models() {
        let embedder = Embedder::with_config(config).unwrap();
        let forward = embedder.embed_batch(&TEXTS).unwrap();
        let reversed: Vec<&str> = TEXTS.iter().rev().copied().collect();
        let backward = embedder.embed_batch(&reversed).unwrap();
        for i in 0..TEXTS.len() {
            assert_eq!(bits(forward.row(i)), bits(backward.row(TEXTS.len() - 1 - i)));
        }
        let many: Vec<&str> = TEXTS.iter().cycle().take(TEXTS.len() * 40 + 5).copied().collect();
        for (i, row) in embedder.embed_batch(&many).unwrap().rows().enumerate() {
            assert_eq!(bits(row), bits(forward.row(i % TEXTS.len())));
        }
    }
}

#[test]
fn threads_and_batch_size_do_not_matter() {
    for config in models() {
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
    for config in models() {
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
    for config in models() {
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
