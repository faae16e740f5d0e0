//! The seeds of the fuzz targets through the same checks, without a fuzzer.

#[path = "../../../fuzz/cases/csv.rs"]
mod csv;
#[path = "../../../fuzz/cases/jsonl.rs"]
mod jsonl;
#[cfg(feature = "parquet")]
#[path = "../../../fuzz/cases/parquet.rs"]
mod parquet;
#[path = "../../../fuzz/cases/seeds.rs"]
mod seeds;

#[test]
fn csv_tables() {
    seeds::run("csv", csv::case);
}

#[test]
fn json_lines() {
    seeds::run("jsonl", jsonl::case);
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_tables() {
    seeds::run("parquet", parquet::case);
}
