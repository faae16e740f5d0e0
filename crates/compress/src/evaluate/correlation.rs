//! Spearman's rank correlation.

/// Spearman's rank correlation of two series of equal length: Pearson's of the ranks, equal values sharing their mean rank.
///
/// NaN where a series has fewer than two different values.
///
/// # Panics
/// Where the lengths differ.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "two series of one length");
    pearson(&ranks(a), &ranks(b))
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x - ma, y - mb);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    ab / (aa * bb).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for group in order.chunk_by(|&i, &j| values[i] == values[j]) {
        for &i in group {
            ranks[i] = first as f64 + (group.len() - 1) as f64 / 2.0;
        }
        first += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotone_series_correlate_fully() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 8.0, 27.0, 64.0]), 1.0);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[0.0, -1.0, -5.0]), -1.0);
    }

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 0.0]), [2.5, 1.0, 2.5, 0.0]);
        // scipy.stats.spearmanr([1, 2, 2, 4, 5], [3, 1, 4, 4, 9]) = 0.7631578947368421
        let found = spearman(&[1.0, 2.0, 2.0, 4.0, 5.0], &[3.0, 1.0, 4.0, 4.0, 9.0]);
        assert!((found - 0.763_157_894_736_842_1).abs() < 1e-12, "{found}");
    }

    #[test]
    fn a_constant_series_has_no_correlation() {
        assert!(spearman(&[1.0, 1.0], &[1.0, 2.0]).is_nan());
    }
}
