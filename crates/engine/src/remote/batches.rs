//! Which texts go together into a request.

use std::ops::Range;

/// Bytes of a token of prose, and tokens beside those of the text.
const BYTES_A_TOKEN: usize = 4;
const SPECIAL: usize = 2;

/// The texts in their order, `texts` and `bytes` a range at most; a text of more bytes is one by itself.
pub(crate) fn ranges(all: &[&str], texts: usize, bytes: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut sum = 0;
    for (i, text) in all.iter().enumerate() {
        match ranges.last_mut() {
            Some(last) if last.len() < texts && sum + text.len() <= bytes => {
                last.end = i + 1;
                sum += text.len();
            }
            _ => {
                ranges.push(i..i + 1);
                sum = text.len();
            }
        }
    }
    ranges
}

/// About how many tokens texts are.
pub(crate) fn tokens(texts: &[impl AsRef<str>]) -> u64 {
    texts.iter().map(|text| (SPECIAL + text.as_ref().len().div_ceil(BYTES_A_TOKEN)) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_is_in_one_range_and_no_range_is_too_large(
            lengths in proptest::collection::vec(0_usize..50, 0..100), texts in 1_usize..20, bytes in 1_usize..100,
        ) {
            let all: Vec<String> = lengths.iter().map(|n| "x".repeat(*n)).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let ranges = ranges(&all, texts, bytes);
            prop_assert!(ranges.iter().flat_map(|r| r.clone()).eq(0..all.len()));
            for range in &ranges {
                let sum: usize = lengths[range.clone()].iter().sum();
                prop_assert!(range.len() <= texts && (sum <= bytes || range.len() == 1));
            }
            // Neighbours would not fit into one.
            for pair in ranges.windows(2) {
                let next = lengths[pair[1].start];
                prop_assert!(pair[0].len() == texts || lengths[pair[0].clone()].iter().sum::<usize>() + next > bytes);
            }
        }
    }

    #[test]
    fn tokens_are_reckoned_from_bytes() {
        assert_eq!(tokens(&["", "abcd", "abcde"]), 2 + 3 + 4);
    }
}
