#![no_main]
#[path = "../cases/csv.rs"]
mod csv;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| csv::case(bytes));
