//! GGUF files as the `gguf` package writes and decodes them, and files that are damaged.

use embral_formats::gguf::{Format, GgufFile, List, Value};
use embral_formats::{Weights, check_finite};
use embral_types::{Dtype, ErrorKind};

const BLOCKS: &[u8] = include_bytes!("gguf/blocks.gguf");

fn read(bytes: &[u8]) -> embral_types::Result<GgufFile> {
    GgufFile::from_bytes("blocks.gguf", bytes.to_vec())
}

#[test]
fn every_block_format_decodes_to_the_bits_of_the_reference() {
    let file = read(BLOCKS).unwrap();
    let mut compared = 0;
    for name in file.names() {
        let Some(stored) = name.strip_suffix(".decoded") else { continue };
        let (found, expected) = (file.get(stored).unwrap(), file.get(&name).unwrap());
        assert_eq!((found.dtype(), found.shape()), (Dtype::F32, expected.shape()), "{stored}");
        let bits = |t: &embral_types::Tensor<'_>| t.to_f32().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&expected), "{stored}");
        check_finite(stored, &found).unwrap();
        assert_eq!(file.format(stored).map(Format::name), Some(stored));
        assert!(file.size(stored).unwrap().1 < found.bytes().len());
        assert_eq!(file.stored(stored).unwrap().bytes().len(), file.size(stored).unwrap().1);
        compared += 1;
    }
    assert_eq!(compared, 10);
}

#[test]
fn floats_are_views_in_their_own_format() {
    let file = read(BLOCKS).unwrap();
    let f32s = file.get("f32").unwrap();
    assert_eq!((f32s.dtype(), f32s.shape()), (Dtype::F32, &[2, 5][..]));
    for (name, dtype, error) in [("f16", Dtype::F16, 1e-3), ("bf16", Dtype::Bf16, 1e-2)] {
        let found = file.get(name).unwrap();
        assert_eq!(found.dtype(), dtype);
        for (x, y) in found.to_f32().iter().zip(f32s.to_f32()) {
            assert!((x - y).abs() <= error * y.abs(), "{name}: {x} for {y}");
        }
    }
}

#[test]
fn metadata_of_every_type_comes_back() {
    let file = read(BLOCKS).unwrap();
    let of = |key: &str| file.metadata()[key].clone();
    assert_eq!(of("general.architecture"), Value::Text("test".into()));
    assert_eq!(of("test.text"), Value::Text("naïve".into()));
    assert_eq!(of("test.flag"), Value::Flag(true));
    assert_eq!(of("test.integer"), Value::Integer(-3));
    assert_eq!(of("test.large"), Value::Integer(1 << 63));
    assert_eq!(of("test.float"), Value::Float(1.5));
    assert_eq!(of("test.texts"), Value::List(List::Texts(vec!["a".into(), "ß".into(), String::new()])));
    assert_eq!(of("test.integers"), Value::List(List::Integers(vec![1, -2])));
    assert_eq!(of("test.floats"), Value::List(List::Floats(vec![0.5, -0.25])));
    assert_eq!(of("test.flags"), Value::List(List::Flags(vec![true, false])));
    assert_eq!(of("test.texts").describe(), "3 texts");
}

#[test]
fn a_format_that_is_not_read_is_named_when_it_is_asked_for() {
    let e = read(BLOCKS).unwrap().get("unread").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("found IQ4_NL") && e.to_string().contains("Q4_K"), "{e}");
}

/// A header of one F32 tensor, changed by the caller.
fn one_tensor(axes: &[u64], format: u32, offset: u64, data: usize) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.push(b't');
    bytes.extend((axes.len() as u32).to_le_bytes());
    bytes.extend(axes.iter().flat_map(|axis| axis.to_le_bytes()));
    bytes.extend(format.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

#[test]
fn damage_is_told_with_what_was_expected_and_found() {
    let message = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(read(&one_tensor(&[4, 2], 0, 0, 32)).unwrap().get("t").unwrap().shape(), [2, 4]);
    for (bytes, expected) in [
        (b"GGML\x03\0\0\0".to_vec(), "begins with \"GGUF\", found \"GGML\""),
        (b"GGUF\x01\0\0\0".to_vec(), "version 2 or 3, found 1"),
        (b"GGUF\0\0\0\x03".to_vec(), "big-endian"),
        (b"GG".to_vec(), "cut short"),
        (one_tensor(&[4, 2], 0, 0, 31), "cut short"),
        (one_tensor(&[4, 2], 0, 8, 64), "an offset that 32 divides, found 8"),
        (one_tensor(&[4, 2], 2, 0, 64), "rows of a multiple of 32 values in Q4_0, found 4"),
        (one_tensor(&[u64::MAX, u64::MAX], 0, 0, 64), "cut short or damaged"),
        (one_tensor(&[0, 1 << 62], 0, 0, 64), "axes of at least 1"),
        (one_tensor(&[1, 1, 1, 1, 1], 0, 0, 64), "expected 1 to 4 axes, found 5"),
        (one_tensor(&[4], 0, u64::MAX - 31, 64), "cut short or damaged"),
    ] {
        let found = message(&bytes);
        assert!(found.starts_with("blocks.gguf") && found.contains(expected), "{found}");
    }
    // A count of tensors that no file has is refused before memory is taken for it.
    let mut bytes = one_tensor(&[4], 0, 0, 16);
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(
        message(&bytes).contains("the number of tensors: the rest of the file holds at most"),
        "{}",
        message(&bytes)
    );
}

#[test]
fn a_file_cut_anywhere_is_an_error_and_no_panic() {
    for end in 0..BLOCKS.len().min(4_000) {
        assert!(read(&BLOCKS[..end]).is_err(), "{end}");
    }
}
