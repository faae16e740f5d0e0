//! The ops in f64, written as their definitions: no blocking, no vectors, no shared code with what they judge.

/// Reproducible numbers in [-1, 1): splitmix64 from `seed`, the upper 24 bits of each.
pub fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// The largest absolute difference; infinite where exactly one of a pair is not finite, or the lengths differ.
pub fn largest_difference(got: &[f32], wanted: &[f64]) -> f64 {
    if got.len() != wanted.len() {
        return f64::INFINITY;
    }
    got.iter()
        .zip(wanted)
        .map(|(&g, &w)| {
            let g = f64::from(g);
            let same = g == w || (g.is_nan() && w.is_nan());
            if same {
                0.0
            } else if g.is_finite() && w.is_finite() {
                (g - w).abs()
            } else {
                f64::INFINITY
            }
        })
        .fold(0.0, f64::max)
}

/// The complementary error function: the Taylor series of erf below 2, Lentz's continued fraction above; within 1e-14 relative.
pub fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let factor = 2.0 / std::f64::consts::PI.sqrt();
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - factor * sum;
    }
    // erfc(x) = e^-x² / √π · 1 / (x + (1/2) / (x + 1 / (x + (3/2) / (x + ...)))), from the far end.
    let fraction = (1..=200).rev().fold(x, |below, n| x + f64::from(n) / 2.0 / below);
    (-x * x).exp() / std::f64::consts::PI.sqrt() / fraction
}

/// `x Φ(x)`.
pub fn gelu_erf(x: f64) -> f64 {
    x * 0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

/// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

/// `x / (1 + e^-x)`.
pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// `a bᵀ` for `a` `[m, k]` and `b` `[n, k]`: `[m, n]`.
pub fn product(a: &[f32], b: &[f32], k: usize) -> Vec<f64> {
    assert!(k > 0, "rows have a width");
    let (m, n) = (a.len() / k, b.len() / k);
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            out.push((0..k).map(|c| f64::from(a[i * k + c]) * f64::from(b[j * k + c])).sum());
        }
    }
    out
}

/// Heads of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// Factor of the scores.
    pub scale: f64,
    /// Whether a query sees only what is not behind it.
    pub causal: bool,
    /// How far a query sees on either side, where there is a limit.
    pub reach: Option<usize>,
}

/// `softmax(scale Q Kᵀ) V` over packed sequences; a row of `qkv` is queries, keys, values.
pub fn attention(qkv: &[f32], offsets: &[u32], h: &Heads) -> Vec<f64> {
    attention_biased(qkv, offsets, h, &|_, _, _| 0.0)
}

/// `softmax(scale Q Kᵀ + bias) V`; the bias is of a head and of the rows of query and key.
pub fn attention_biased(
    qkv: &[f32],
    offsets: &[u32],
    h: &Heads,
    bias: &dyn Fn(usize, usize, usize) -> f64,
) -> Vec<f64> {
    let width = (h.heads + 2 * h.kv_heads) * h.dim;
    let at = |row: usize, head: usize, c: usize| f64::from(qkv[row * width + head * h.dim + c]);
    let mut out = Vec::new();
    for ends in offsets.windows(2) {
        let (first, end) = (ends[0] as usize, ends[1] as usize);
        for row in first..end {
            for head in 0..h.heads {
                let key = h.heads + head / (h.heads / h.kv_heads);
                let value = key + h.kv_heads;
                let last = if h.causal { row + 1 } else { end };
                let reach = h.reach.unwrap_or(end);
                let (from, last) = (first.max(row.saturating_sub(reach)), last.min(row.saturating_add(reach + 1)));
                let scores: Vec<f64> = (from..last)
                    .map(|other| {
                        let product = (0..h.dim).map(|c| at(row, head, c) * at(other, key, c)).sum::<f64>();
                        h.scale * product + bias(head, row, other)
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                for c in 0..h.dim {
                    let mixed: f64 = scores
                        .iter()
                        .zip(from..)
                        .map(|(s, other)| (s - largest).exp() / sum * at(other, value, c))
                        .sum();
                    out.push(mixed);
                }
            }
        }
    }
    out
}

/// `(x - mean) / √(var + eps) γ + β` of each row; with `rms` without the mean.
pub fn norm(x: &[f64], gamma: &[f32], beta: Option<&[f32]>, eps: f64, rms: bool) -> Vec<f64> {
    let width = gamma.len();
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks(width) {
        let mean = if rms { 0.0 } else { row.iter().sum::<f64>() / width as f64 };
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / width as f64;
        for (i, v) in row.iter().enumerate() {
            let shift = beta.map_or(0.0, |beta| f64::from(beta[i]));
            out.push((v - mean) / (variance + eps).sqrt() * f64::from(gamma[i]) + shift);
        }
    }
    out
}

/// Turns one head at `position`: pair `i` by `position · frequencies[i]`, and makes it longer by `factor`.
pub fn rotate(head: &[f32], position: usize, frequencies: &[f32], factor: f64, interleaved: bool) -> Vec<f64> {
    let mut out: Vec<f64> = head.iter().map(|&x| f64::from(x)).collect();
    for (i, &frequency) in frequencies.iter().enumerate() {
        let angle = position as f64 * f64::from(frequency);
        let (a, b) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + frequencies.len()) };
        let (x, y) = (f64::from(head[a]), f64::from(head[b]));
        out[a] = factor * (x * angle.cos() - y * angle.sin());
        out[b] = factor * (y * angle.cos() + x * angle.sin());
    }
    out
}

/// Divides each row by `max(length, 1e-12)`.
pub fn unit(x: &[f64], width: usize) -> Vec<f64> {
    x.chunks(width)
        .flat_map(|row| {
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
            row.iter().map(move |v| v / length)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_has_the_values_of_the_tables() {
        // Abramowitz and Stegun, table 7.1, and erfc(5) from its asymptotic series.
        for (x, wanted) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_2),
            (1.0, 0.157_299_207_1),
            (2.0, 0.004_677_734_98),
            (5.0, 1.537_459_794_4e-12),
        ] {
            assert!((erfc(x) / wanted - 1.0).abs() < 1e-9, "erfc({x}) = {}", erfc(x));
            assert!((erfc(-x) - (2.0 - wanted)).abs() < 1e-9);
        }
        assert!((erfc(1.999_999_999_9) - erfc(2.000_000_000_1)).abs() < 1e-11, "the two forms meet");
    }

    #[test]
    fn attention_of_one_key_is_its_value() {
        let h = Heads { heads: 2, kv_heads: 1, dim: 1, scale: 1.0, causal: true, reach: None };
        assert_eq!(attention(&[9.0, 9.0, 3.0, 7.0], &[0, 1], &h), [7.0, 7.0]);
    }
}
