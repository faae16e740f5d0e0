//! The best of many scores.

/// The `k` best scores with their indices, best first, equal ones in order. One pass over the scores, which keeps `2 k` of them at the
/// most.
pub(crate) fn best(scores: impl IntoIterator<Item = f32>, k: usize) -> Vec<(usize, f32)> {
    let better = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut kept: Vec<(usize, f32)> = Vec::new();
    // The score of the last of `k` that are kept, where there are as many: what comes behind it must be better.
    let mut least = None;
    for (index, score) in scores.into_iter().enumerate() {
        if k == 0 || least.is_some_and(|least: f32| score.total_cmp(&least).is_le()) {
            continue;
        }
        kept.push((index, score));
        if kept.len() >= k.saturating_mul(2) {
            kept.select_nth_unstable_by(k - 1, better);
            kept.truncate(k);
            least = Some(kept[k - 1].1);
        }
    }
    kept.sort_unstable_by(better);
    kept.truncate(k);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_testkit::oracle;

    #[test]
    fn the_best_are_those_of_a_whole_sort() {
        for (count, levels) in [(0, 1.0), (1, 1.0), (7, 2.0), (500, 3.0), (500, 1e6)] {
            // Few levels, so that many scores are equal.
            let mut scores: Vec<f32> =
                oracle::numbers(count as u64, count).iter().map(|x| (x * levels).round() / levels).collect();
            if let Some(score) = scores.get_mut(5) {
                *score = f32::NAN;
            }
            let mut wanted: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
            wanted.sort_by(|a, b| b.1.total_cmp(&a.1));
            for k in [0, 1, 2, 10, 499, 500, usize::MAX] {
                let found = best(scores.iter().copied(), k);
                let bits = |ranked: &[(usize, f32)]| -> Vec<(usize, u32)> {
                    ranked.iter().map(|(index, score)| (*index, score.to_bits())).collect()
                };
                assert_eq!(bits(&found), bits(&wanted[..k.min(count)]), "{k} of {count}");
            }
        }
    }
}
