//! Texts at the edge: each gives a finite vector or a clear error, and never a panic.

use embral::{Config, Embedder, ErrorKind, Part, PartPrecision, Precision, Truncation};

fn tiny(name: &str) -> Config {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    Config::model(path.to_str().unwrap())
}

#[test]
fn every_text_has_a_defined_result() {
    let huge = "word ".repeat(20_000);
    let unbroken = "x".repeat(50_000);
    let texts: [&str; 11] =
        ["", " ", "\t\n\r", "\0", "a\0b", "\u{feff}", "\u{fffd}\u{fffd}", "\u{200d}\u{200d}", "🏳️‍🌈", &huge, &unbroken];
    for name in ["tiny_bert", "tiny_qwen3", "static_f32"] {
        let embedder = Embedder::with_config(tiny(name)).unwrap();
        let rows = embedder.embed_batch(&texts).unwrap();
        assert_eq!(rows.len(), texts.len());
        assert!(rows.as_slice().iter().all(|x| x.is_finite()), "{name}");
        for text in texts {
            assert!(embedder.tokenize(text).unwrap().len() <= embedder.max_tokens());
        }
        assert!(embedder.embed_batch(&[] as &[&str]).unwrap().is_empty());
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_or_refused_as_asked() {
    let long = "one two three four ".repeat(200);
    let config = Config { max_tokens: Some(8), ..tiny("tiny_bert") };
    let right = Embedder::with_config(config.clone()).unwrap();
    let left = Embedder::with_config(Config { truncation: Truncation::Left, ..config.clone() }).unwrap();
    assert_eq!(right.tokenize(&long).unwrap().len(), 8);
    let mixed = format!("{long} cat");
    assert_ne!(right.embed(&mixed).unwrap(), left.embed(&mixed).unwrap());
    right.embed(&long).unwrap();
    assert_eq!(right.profile().truncated, 1);

    let strict = Embedder::with_config(Config { truncation: Truncation::Error, ..config }).unwrap();
    let error = strict.embed_batch(&["short", &long]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLong);
    assert!(error.to_string().contains("text 1"), "{error}");
    let mut many = vec!["short"; 5000];
    (many[3000], many[4500], many[4999]) = (&long, &long, &long);
    let error = strict.embed_batch(&many).unwrap_err();
    assert!(error.kind() == ErrorKind::TooLong && error.to_string().contains("text 3000:"), "{error}");
}

#[test]
fn choices_a_model_does_not_have_are_refused() {
    let wide = Embedder::with_config(Config { dims: Some(4096), ..tiny("tiny_bert") }).unwrap_err();
    assert!(wide.to_string().contains("4096") && wide.to_string().contains("32"), "{wide}");
    let long = Embedder::with_config(Config { max_tokens: Some(1 << 20), ..tiny("tiny_bert") }).unwrap_err();
    assert!(long.to_string().contains("positions"), "{long}");
    let embedder = Embedder::with_config(tiny("tiny_bert")).unwrap();
    let prompt = embedder.embed_batch_as(&["x"], embral::Prompt::Name("nope")).unwrap_err();
    assert!(prompt.to_string().contains("nope"), "{prompt}");
    let zero = Embedder::with_config(Config { batch_tokens: 0, ..Config::default() }).unwrap_err();
    assert_eq!(zero.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_cut_is_the_start_of_the_vector_normalised() {
    let whole = Embedder::with_config(Config { normalize: Some(false), ..tiny("tiny_bert") }).unwrap();
    let cut = Embedder::with_config(Config { dims: Some(8), ..tiny("tiny_bert") }).unwrap();
    assert_eq!(cut.dimensions(), 8);
    let (whole, cut) = (whole.embed("a cat").unwrap(), cut.embed("a cat").unwrap());
    let norm = whole[..8].iter().map(|x| x * x).sum::<f32>().sqrt();
    for (w, c) in whole.iter().zip(&cut) {
        assert!((w / norm - c).abs() < 1e-6);
    }
}

/// The ids are those of `BertTokenizer` of transformers 5.23 on the same vocabulary and flags.
#[test]
fn a_vocabulary_is_read_with_the_flags_of_its_configuration() {
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny_bert");
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir(to.path().join("1_Pooling")).unwrap();
    for file in ["config.json", "model.safetensors", "modules.json", "vocab.txt", "1_Pooling/config.json"] {
        std::fs::copy(from.join(file), to.path().join(file)).unwrap();
    }
    let expected: [(&str, &[u32]); 5] = [
        (r#"{"strip_accents": null}"#, &[2, 20, 60, 126, 213, 1, 3]),
        (r#"{"strip_accents": false}"#, &[2, 1, 1, 213, 1, 3]),
        (r#"{"do_lower_case": false}"#, &[2, 1, 1, 213, 1, 3]),
        (r#"{"do_lower_case": false, "strip_accents": true}"#, &[2, 1, 126, 213, 1, 3]),
        (r#"{"tokenize_chinese_chars": false}"#, &[2, 20, 60, 126, 1, 3]),
    ];
    for (config, ids) in expected {
        std::fs::write(to.path().join("tokenizer_config.json"), config).unwrap();
        let embedder = Embedder::open(to.path().to_str().unwrap()).unwrap();
        assert_eq!(embedder.tokenize("Aé bé 日本").unwrap(), ids, "{config}");
    }
}

#[test]
fn a_token_without_a_row_is_refused() {
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny_bert");
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir(to.path().join("1_Pooling")).unwrap();
    for file in ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json"] {
        std::fs::copy(from.join(file), to.path().join(file)).unwrap();
    }
    let tokenizer = std::fs::read_to_string(from.join("tokenizer.json")).unwrap();
    let larger = tokenizer.replacen(r#""vocab":{"#, r#""vocab":{"zebra":99999,"#, 1);
    std::fs::write(to.path().join("tokenizer.json"), larger).unwrap();
    let embedder = Embedder::open(to.path().to_str().unwrap()).unwrap();
    let error = embedder.embed("a zebra").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("token 99999"), "{error}");
    embedder.embed("a cat").unwrap();
}

/// What is run while a model is opened is no text of the caller's.
#[test]
fn a_limit_that_is_an_error_is_one_of_texts_alone() {
    for name in ["tiny_bert", "tiny_qwen3", "static_f32"] {
        let config = Config { truncation: Truncation::Error, max_tokens: Some(3), ..tiny(name) };
        let embedder = Embedder::with_config(config).unwrap();
        embedder.embed("x").unwrap();
        assert_eq!(embedder.embed("one two three four five six").unwrap_err().kind(), ErrorKind::TooLong, "{name}");
    }
}

/// With each part in f32 an int8 model is the f32 model, bit for bit; with one of them it is neither.
#[test]
fn parts_have_the_precision_that_is_asked_for() {
    let layers = Embedder::with_config(tiny("tiny_bert")).unwrap().info().layers;
    let vector = |precision, parts: Vec<PartPrecision>| {
        let embedder = Embedder::with_config(Config { precision, parts, ..tiny("tiny_bert") }).unwrap();
        assert_eq!(embedder.info().precision, precision);
        embedder.embed("a cat sat on the mat").unwrap()
    };
    let (exact, coarse) = (vector(Precision::F32, vec![]), vector(Precision::Int8, vec![]));
    let part = |layer, part| PartPrecision { layer, part, precision: Precision::F32 };
    let all = (0..layers).flat_map(|layer| Part::ALL.map(|name| part(layer, name))).collect();
    assert_eq!(vector(Precision::Int8, all), exact);
    let one = vector(Precision::Int8, vec![part(0, Part::Down)]);
    assert!(one != exact && one != coarse);

    let refused = |config: Config, message: &str| {
        let error = Embedder::with_config(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(message), "{error}");
    };
    refused(Config { parts: vec![part(layers, Part::Up)], ..tiny("tiny_bert") }, "expected a layer below");
    refused(Config { parts: vec![part(0, Part::Up)], ..tiny("static_f32") }, "found precision 0.up=f32");
    refused(Config { parts: vec![part(0, Part::Up)], ..Config::default() }, "found precision 0.up=f32");
}

/// Rounding of the weights and rows moves a vector a little; how little for a real model is in docs/performance.md.
#[test]
fn a_precision_is_near_f32_and_a_table_has_but_one() {
    for name in ["tiny_bert", "tiny_qwen3"] {
        let exact = Embedder::with_config(tiny(name)).unwrap();
        for (precision, least) in [(Precision::Bf16, 0.999), (Precision::Int8, 0.99)] {
            let embedder = Embedder::with_config(Config { precision, ..tiny(name) }).unwrap();
            assert_eq!(embedder.info().precision, precision);
            for text in ["a cat sat on the mat", "one two three", "x"] {
                let (a, b) = (exact.embed(text).unwrap(), embedder.embed(text).unwrap());
                assert_ne!(a, b, "{name} {precision}: something is rounded");
                let cosine: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
                assert!(cosine > least, "{name} {precision} {text:?}: {cosine}");
            }
        }
    }
    for config in [tiny("static_f32"), Config::default()] {
        let error = Embedder::with_config(Config { precision: Precision::Int8, ..config }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("int8"), "{error}");
    }
}

/// A table of replaced characters is bytes of a foreign format, read by a foreign crate.
#[test]
fn a_damaged_table_of_characters_in_a_gguf_file_is_an_error() {
    let whole = std::fs::read(tiny("gguf_xlm_roberta").model.unwrap() + "/model.gguf").unwrap();
    let key = b"tokenizer.ggml.precompiled_charsmap";
    // The key, the type of the value and of its elements, and their number.
    let table = whole.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 4 + 4 + 8;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    for (at, bytes) in [(0, u32::MAX), (0, 3), (4, u32::MAX), (4, 0x3fff_fc00)] {
        let mut damaged = whole.clone();
        damaged[table + at..][..4].copy_from_slice(&bytes.to_le_bytes());
        std::fs::write(&file, damaged).unwrap();
        let embedded = Embedder::open(file.to_str().unwrap()).and_then(|e| e.embed("é à a cat sat"));
        if let Err(e) = embedded {
            assert_eq!(e.kind(), ErrorKind::Malformed, "{e}");
        } else {
            assert!(at == 4, "the table is longer than the file says");
        }
    }
}
