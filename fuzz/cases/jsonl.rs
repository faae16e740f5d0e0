//! Texts in JSON lines: no line gives more than one record.

use std::fs;

pub(crate) fn case(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("case.jsonl");
    fs::write(&file, bytes).expect("writable");
    let Ok((records, skipped)) = embral_cli::count_texts(&file) else { return };
    let lines = bytes.split(|&byte| byte == b'\n').count() as u64;
    assert!(records + skipped <= lines, "{records} records and {skipped} left out of {lines} lines");
}
