use super::*;
use std::collections::BTreeMap;

fn small() -> Shapes {
    let attention =
        embral_kernels::op::attention::AttentionShape { dim: 8, heads: 4, kv_heads: 2, ..Shapes::minilm().attention };
    let scaling = embral_models::RopeScaling::None;
    let rope = embral_models::RopeSpec { theta: 1e4, rotary_dims: 8, interleaved: false, scaling };
    let sizes = Shapes { vocab: 100, hidden: 32, inner: 48, attention, ..Shapes::minilm() };
    Shapes { gated: true, rope: Some(rope), head_norms: true, ..sizes }
}

#[test]
fn every_variant_is_there_and_one_of_each_is_marked() {
    let options = Options { threads: Some(2), tokens: 40, budget: Duration::from_micros(20) };
    let report = run(&options, &small());
    let mut groups: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in &report.rows {
        groups.entry((row.kernel, row.precision, row.shape.as_str())).or_default().push(row);
        assert!(row.per_second > 0.0 && row.microseconds > 0.0, "{row:?}");
    }
    for (group, rows) in &groups {
        assert_eq!(rows.iter().filter(|row| row.pick).count(), 1, "{group:?}");
    }
    let variants = |kernel, precision| {
        let mut found: Vec<&str> = report
            .rows
            .iter()
            .filter(|row| (row.kernel, row.precision) == (kernel, precision))
            .map(|row| row.variant.as_str())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    for precision in Precision::ALL {
        let mut wanted: Vec<String> = Variant::available(precision).iter().map(|v| v.name()).collect();
        wanted.sort_unstable();
        for kernel in ["qkv", "out", "up", "down"] {
            assert_eq!(variants(kernel, Some(name(precision))), wanted, "{kernel}");
        }
        if precision != Precision::Int8 {
            assert!(wanted.iter().all(|v| variants("attention", Some(name(precision))).contains(&v.as_str())));
        }
        assert_eq!(report.peaks.iter().filter(|p| p.precision == name(precision) && p.pick).count(), 1);
    }
    for kernel in ["norm", "activation", "embed", "pooling", "bag", "rope", "head norm", "similarity"] {
        assert_eq!(variants(kernel, None).len(), Isa::available().len(), "{kernel}");
    }
    let table = report.to_string();
    for row in &report.rows {
        assert!(table.contains(&row.shape) && table.contains(&row.variant), "{row:?}");
    }
    assert!(report.to_json().contains("\"unit\": \"FLOP/s\""));
}

#[test]
fn a_folder_gives_its_sizes_without_its_weights() {
    let golden =
        |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden").join(name);
    let shapes = Shapes::of_folder(&golden("tiny_qwen3"), "tiny").unwrap().expect("a transformer");
    assert_eq!((shapes.hidden, shapes.inner, shapes.vocab), (32, 48, 344));
    assert_eq!((shapes.attention.heads, shapes.attention.kv_heads, shapes.attention.dim), (4, 2, 16));
    assert!(shapes.gated && shapes.head_norms && shapes.rope.is_some());
    assert_eq!(shapes.layers()[0].1.outputs, 128);
    assert_eq!(Shapes::of_folder(&golden("static_f32"), "tiny").unwrap(), None);
}
