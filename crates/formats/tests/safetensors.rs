//! Reading of safetensors: what is written comes back, what is broken is named, and the reference reader agrees.

use embral_formats::{
    ShardIndex, Sharded, Weights,
    safetensors::{self, SafetensorsFile},
};
use embral_types::{Dtype, Error, ErrorKind, Tensor};
use proptest::prelude::*;
use std::path::Path;

/// A file with `header` as it stands and `values` zero bytes after it.
fn file(header: &str, values: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + values, 0);
    bytes
}

fn parse(bytes: Vec<u8>) -> Result<SafetensorsFile, Error> {
    SafetensorsFile::from_bytes("m.safetensors", bytes)
}

fn tensor(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

#[test]
fn every_format_is_written_and_read_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let formats = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::I64, Dtype::I32, Dtype::I8, Dtype::U8];
    let names: Vec<String> = formats.iter().map(|f| format!("t.{f}")).collect();
    let tensors: Vec<(&str, Tensor<'_>)> = names
        .iter()
        .zip(formats)
        .map(|(name, dtype)| {
            let bytes: Vec<u8> = (0..6 * dtype.size()).map(|i| (i * 37 % 101) as u8).collect();
            (name.as_str(), Tensor::new(dtype, vec![2, 3], bytes))
        })
        .collect();
    safetensors::write(&path, &tensors).unwrap();

    let read = SafetensorsFile::open(&path).unwrap();
    for (name, tensor) in &tensors {
        assert_eq!(&read.get(name).unwrap(), tensor);
    }
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(read.names(), sorted);
    assert_eq!(read.file(), path);
    assert!(read.contains("t.F32") && !read.contains("t"));
    let missing = read.get("t").unwrap_err();
    assert_eq!((missing.kind(), missing.file(), missing.tensor()), (ErrorKind::Mismatch, Some(&*path), Some("t")));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no unfinished file stays behind");
}

#[test]
fn metadata_scalars_and_empty_tensors_are_fine() {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{},{},{}}}   "#,
        tensor("b", "F32", "[]", 0, 4),
        tensor("a", "I8", "[0,5]", 0, 0),
        tensor("c", "F32", "[1,1]", 4, 8)
    );
    let read = parse(file(&header, 8)).unwrap();
    assert_eq!(read.metadata()["format"], "pt");
    assert_eq!(read.get("b").unwrap().shape(), [0usize; 0]);
    assert!(read.get("a").unwrap().is_empty());
    assert!(parse(file("{}", 0)).unwrap().names().is_empty());
}

#[test]
fn a_format_that_is_not_read_is_only_an_error_when_it_is_asked_for() {
    let header = format!("{{{},{}}}", tensor("a", "U16", "[2]", 0, 4), tensor("b", "F32", "[1]", 4, 8));
    let read = parse(file(&header, 8)).unwrap();
    assert_eq!(read.get("b").unwrap().to_f32(), [0.0]);
    let e = read.get("a").unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::Unsupported, Some("a")));
    assert!(e.message().contains("found values in U16"), "{e}");
}

#[test]
fn each_malformed_shape_is_named() {
    let two = |a: &str, b: &str| format!("{{{a},{b}}}");
    let f = |name, begin, end| tensor(name, "F32", "[2]", begin, end);
    let cases: Vec<(&str, Vec<u8>, Option<&str>, &str)> = vec![
        ("no length", vec![1, 2, 3], None, "at least 8 bytes, found 3"),
        ("header beyond the file", 50u64.to_le_bytes().to_vec(), None, "header of 50 bytes, found 0"),
        ("header beyond any file", vec![0xff; 64], None, "at most 100000000 bytes"),
        ("no JSON", file("{\"a\"", 0), None, "header is not what it must be"),
        ("no UTF-8", [&2u64.to_le_bytes()[..], b"{\xff"].concat(), None, "header is not what it must be"),
        ("not an object", file("[]", 0), None, "expected an object of tensors"),
        ("no offsets", file(r#"{"a":{"dtype":"F32","shape":[1]}}"#, 4), None, "tensor a: missing field"),
        ("negative", file(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4), None, "tensor a: "),
        ("metadata of numbers", file(r#"{"__metadata__":{"a":1}}"#, 0), None, "expected a string"),
        ("unknown format", file(&format!("{{{}}}", tensor("a", "F33", "[1]", 0, 4)), 4), Some("a"), "found \"F33\""),
        ("cut off", file(&format!("{{{}}}", f("a", 0, 8)), 7), Some("a"), "within the 7 bytes of values, found 0 to 8"),
        ("falling", file(&format!("{{{}}}", f("a", 8, 0)), 8), Some("a"), "found 8 to 0"),
        ("overlap", file(&two(&f("a", 0, 8), &f("b", 4, 12)), 12), Some("b"), "tensors overlap"),
        ("gap", file(&two(&f("a", 0, 8), &f("b", 12, 20)), 20), Some("b"), "tensors leave a gap"),
        (
            "bytes left",
            file(&format!("{{{}}}", f("a", 0, 8)), 9),
            None,
            "expected 8 bytes of values after the header, found 9",
        ),
        (
            "shape and size",
            file(&format!("{{{}}}", f("a", 0, 12)), 12),
            Some("a"),
            "expected 8 bytes for F32 of shape [2], found 12",
        ),
        (
            "overflow",
            file(&format!("{{{}}}", tensor("a", "F32", "[4294967296,4294967296]", 0, 0)), 0),
            Some("a"),
            "no size that a computer can hold",
        ),
        ("half a byte", file(&format!("{{{}}}", tensor("a", "F4", "[3]", 0, 1)), 1), Some("a"), "expected 2 bytes"),
        ("twice", file(&two(&f("a", 0, 8), &f("a", 8, 16)), 16), Some("a"), "two tensors of this name"),
    ];
    for (what, bytes, tensor, message) in cases {
        let e = parse(bytes).expect_err(what);
        assert_eq!((e.kind(), e.tensor()), (ErrorKind::Malformed, tensor), "{what}: {e}");
        assert_eq!(e.file(), Some(Path::new("m.safetensors")), "{what}");
        assert!(e.message().contains(message), "{what}: {e}");
    }
}

/// Two shards and an index, the index as given.
fn sharded(index: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for (shard, name, value) in [("one.safetensors", "a", 1.0), ("two.safetensors", "b", 2.0)] {
        safetensors::write(&dir.path().join(shard), &[(name, Tensor::from_f32(vec![1], &[value]))]).unwrap();
    }
    let path = dir.path().join("model.safetensors.index.json");
    std::fs::write(&path, index).unwrap();
    (dir, path)
}

#[test]
fn shards_are_one_model() {
    let (_dir, path) =
        sharded(r#"{"metadata":{"total_size":8},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#);
    let read = embral_formats::open(&path).unwrap();
    assert_eq!(read.names(), ["a", "b"]);
    assert_eq!((read.get("a").unwrap().to_f32(), read.get("b").unwrap().to_f32()), (vec![1.0], vec![2.0]));
    assert!(read.get("c").unwrap_err().to_string().contains("index.json: tensor c: the tensor is missing"));
}

#[test]
fn an_index_that_disagrees_with_its_shards_is_refused() {
    let refused = |index: &str| Sharded::open(&sharded(index).1).err().unwrap();
    let e = refused(r#"{"weight_map":{"a":"one.safetensors","b":"three.safetensors"}}"#);
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.to_string().contains("three.safetensors") && e.to_string().contains("names this shard"), "{e}");
    let e = refused(r#"{"weight_map":{"b":"one.safetensors"}}"#);
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::Mismatch, Some("b")));
    assert!(e.message().contains("expected the tensor in one.safetensors"), "{e}");
    for name in ["../one.safetensors", "/etc/passwd", "", ".", "..", "x/one.safetensors"] {
        let e = refused(&format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#));
        assert!(e.kind() == ErrorKind::Malformed && e.message().contains("a file beside the index"), "{name}: {e}");
    }
    let e = refused(r#"{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}"#);
    assert!(e.message().contains("tensor a is in one.safetensors and in two.safetensors"), "{e}");
    assert_eq!(refused("{}").kind(), ErrorKind::Malformed);
}

/// Valid files of a few tensors, as (name, format, shape).
fn valid() -> impl Strategy<Value = Vec<u8>> {
    let one = ("[a-z_.]{1,8}", 0..5usize, proptest::collection::vec(0..4usize, 0..3));
    proptest::collection::vec(one, 0..5).prop_map(|tensors| {
        let mut end = 0;
        let entries: Vec<String> = tensors
            .iter()
            .map(|(name, format, shape)| {
                let (format, size) = [("F32", 4), ("F16", 2), ("I8", 1), ("F64", 8), ("U16", 2)][*format];
                let begin = end;
                end += shape.iter().product::<usize>() * size;
                tensor(name, format, &format!("{shape:?}"), begin as u64, end as u64)
            })
            .collect();
        file(&format!("{{{}}}", entries.join(",")), end)
    })
}

fn read_all(bytes: &[u8]) -> Result<(), Error> {
    let read = parse(bytes.to_vec())?;
    for name in read.names() {
        if let Ok(tensor) = read.get(&name) {
            assert_eq!(tensor.bytes().len(), tensor.len() * tensor.dtype().size());
        }
    }
    Ok(())
}

/// The crate that defines the format accepts what is accepted here, and sees the same tensors; it alone accepts repeated names.
fn agrees_with_the_reference(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = parse(bytes.to_vec());
    match (::safetensors::SafeTensors::deserialize(bytes), ours) {
        (Ok(reference), Ok(ours)) => {
            prop_assert_eq!(reference.len(), ours.names().len());
            for (name, view) in reference.iter() {
                if let Ok(tensor) = ours.get(name) {
                    prop_assert_eq!((tensor.shape(), tensor.bytes()), (view.shape(), view.data()));
                }
            }
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(e)) => {
            let repeated = e.message().contains("two tensors of this name") || e.message().contains("two entries");
            prop_assert!(repeated, "only the reference accepts: {}", e);
        }
        (Err(e), Ok(_)) => prop_assert!(false, "only the reference refuses: {e:?}"),
    }
    Ok(())
}

proptest! {
    #[test]
    fn both_readers_give_one_verdict_on_files_that_may_be_valid(bytes in valid()) {
        agrees_with_the_reference(&bytes)?;
    }

    #[test]
    fn both_readers_give_one_verdict_on_damaged_files(
        bytes in valid(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = bytes;
        for (at, to) in damage {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        agrees_with_the_reference(&bytes)?;
        let _ = read_all(&bytes);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(header in proptest::collection::vec(any::<u8>(), 0..100), length in 0..120u64) {
        let _ = read_all(&header);
        let _ = read_all(&[&length.to_le_bytes()[..], &header].concat());
    }

    #[test]
    fn no_index_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "\\PC{0,80}") {
        for bytes in [bytes, format!(r#"{{"weight_map":{{{text}}}}}"#).into_bytes()] {
            if let Ok(index) = ShardIndex::from_bytes(Path::new("i"), &bytes) {
                prop_assert!(index.weight_map.values().all(|file| !file.contains('/')));
            }
        }
    }
}
