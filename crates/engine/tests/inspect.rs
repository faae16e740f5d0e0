//! Where a precision loses, on tiny models.

use embral::{Config, Embedder, ErrorKind, Precision, inspect};
use embral_testkit::golden::Golden;

fn config(name: &str, precision: Precision) -> Config {
    let golden = Golden::load(name);
    let model = golden.folder.to_str().expect("a path in UTF-8");
    Config { precision, warm_up: false, ..Config::model(model) }
}

/// The least cosine between the vectors of two embedders.
fn least_cosine(a: &Embedder, b: &Embedder) -> f64 {
    let vectors = |e: &Embedder| e.embed_batch(&inspect::TEXTS).unwrap();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let cosine = |(a, b): (&[f32], &[f32])| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    vectors(a).rows().zip(vectors(b).rows()).map(cosine).fold(f64::INFINITY, f64::min)
}

#[test]
fn every_part_of_every_layer_is_there_and_the_sum_is_that_of_an_embedder() {
    for (name, precision) in
        [("tiny_bert", Precision::Int8), ("tiny_qwen3", Precision::Int8), ("tiny_bert", Precision::Bf16)]
    {
        let coarse = config(name, precision);
        let report = inspect::run(&coarse, &inspect::TEXTS).unwrap();
        assert_eq!((report.texts, report.layers.len(), report.worst.len()), (12, 2, 3), "{name}");
        assert!(report.tokens > 12 * 3);
        for (layer, loss) in report.layers.iter().enumerate() {
            let parts: Vec<_> = loss.parts.iter().map(|p| p.part).collect();
            assert_eq!(parts, ["qkv", "attention", "out", "up", "down"]);
            for part in &loss.parts {
                let what = format!("{name} {precision}, layer {layer}, {}: {part:?}", part.part);
                // Attention stays in f32 on a machine without instructions for bf16.
                assert!(
                    part.error > 0.0 && part.error < 0.1 || part.part == "attention" && part.error == 0.0,
                    "{what}"
                );
                assert!(part.cosine.min > 0.99 && part.cosine.mean >= part.cosine.min, "{what}");
                assert_eq!(part.outlier.is_some(), part.part != "attention", "{what}");
                assert!(part.outlier.is_none_or(|o| (1.0..100.0).contains(&o)), "{what}");
            }
            assert!(loss.total > 0.0 && loss.total < 0.2, "{name}: {loss:?}");
        }
        let (f32, coarse) = (config(name, Precision::F32), coarse);
        let embedders = (Embedder::with_config(f32).unwrap(), Embedder::with_config(coarse).unwrap());
        assert_eq!(report.cosine.min, least_cosine(&embedders.0, &embedders.1), "{name}");
        // The worst part by itself is the first of those kept; each of them costs less than everything together.
        let harm = |part: &inspect::PartLoss| 1.0 - part.cosine.mean;
        let worst = &report.layers[report.worst[0].layer];
        let worst = worst.parts.iter().find(|p| p.part == report.worst[0].part).unwrap();
        assert!(report.layers.iter().flat_map(|l| &l.parts).all(|p| harm(p) <= harm(worst)), "{name}");
        assert!(report.worst.iter().all(|kept| kept.precision != precision), "{:?}", report.worst);
    }
}

#[test]
fn a_first_layer_alone_is_its_total_with_all_other_parts() {
    // With one layer's parts all in the precision, the total behind it is no smaller than a tenth of its largest part: they do not
    // cancel, and no part of a later layer is in it.
    let report = inspect::run(&config("tiny_bert", Precision::Int8), &inspect::TEXTS).unwrap();
    let first = &report.layers[0];
    let squares: f64 = first.parts.iter().map(|p| p.error * p.error).sum();
    assert!((0.5..2.0).contains(&(first.total / squares.sqrt())), "{first:?}");
}

#[test]
fn how_texts_are_put_together_changes_nothing() {
    let whole = config("tiny_bert", Precision::Int8);
    let single = Config { batch_tokens: 1, threads: Some(1), ..whole.clone() };
    assert_eq!(inspect::run(&whole, &inspect::TEXTS).unwrap(), inspect::run(&single, &inspect::TEXTS).unwrap());
}

#[test]
fn what_has_no_loss_is_refused() {
    let refused = |config: Config, texts: &[&str], expected: &str| {
        let error = inspect::run(&config, texts).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(config("tiny_bert", Precision::F32), &["a"], "bf16 or int8");
    refused(config("tiny_bert", Precision::Int8), &[], "no text");
    refused(config("static_f32", Precision::Int8), &["a"], "static");
    refused(Config { precision: Precision::Int8, ..Config::default() }, &["a"], "static");
}
