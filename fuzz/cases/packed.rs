//! A file of packed weights: what is accepted has its runs within the file, and gives those whose checksums hold.

use embral_formats::packed::PackedFile;
use std::path::Path;

pub(crate) fn case(bytes: &[u8]) {
    read(bytes.to_vec());
    // The checksum of the table keeps a fuzzer out; what is behind it must hold without it.
    if let Some(repaired) = repaired(bytes) {
        read(repaired);
    }
}

fn read(bytes: Vec<u8>) {
    let len = bytes.len();
    let Ok(file) = PackedFile::from_bytes(Path::new("case"), bytes, 0) else { return };
    for key in file.keys() {
        if let Some(run) = file.get(key) {
            assert!(run.as_ref().len() <= len - 64);
        }
    }
    assert!(file.keys().is_sorted_by(|a, b| a < b));
}

fn repaired(bytes: &[u8]) -> Option<Vec<u8>> {
    let rows = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?) as usize;
    let table = bytes.get(64..rows.checked_mul(40)?.checked_add(64)?)?;
    let checksum = twox_hash::XxHash3_64::oneshot(&[&bytes[..32], table].concat());
    let mut repaired = bytes.to_vec();
    repaired[32..40].copy_from_slice(&checksum.to_le_bytes());
    Some(repaired)
}
