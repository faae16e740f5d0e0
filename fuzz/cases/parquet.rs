//! Texts in a Parquet table: what can be read is read twice the same.

use std::fs;

pub(crate) fn case(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("case.parquet");
    fs::write(&file, bytes).expect("writable");
    let Ok(first) = embral_cli::count_texts(&file) else { return };
    assert_eq!(embral_cli::count_texts(&file).expect("it was read before"), first);
}
