//! The ops, one module each.

pub mod activation;
pub mod attention;
pub mod bag;
pub mod codes;
pub mod embed;
pub mod gemm;
pub mod norm;
pub mod pooling;
pub mod rope;
pub mod similarity;

/// Checks `offsets` of packed sequences over `rows` rows and returns the number of sequences.
///
/// # Panics
/// Where they do not start at 0, decrease, or do not end at `rows`.
fn sequences(offsets: &[u32], rows: usize) -> usize {
    assert!(
        offsets.first() == Some(&0) && offsets.is_sorted() && offsets.last().is_some_and(|&end| end as usize == rows),
        "offsets start at 0, never decrease and end at {rows}, the number of rows"
    );
    offsets.len() - 1
}
