//! The statistics of a run, as plain functions: quantiles, a slope, random arrivals.

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed, on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0, below 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number from 0, below `n`; 0 where `n` is 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }
}

/// The times of a Poisson process of `rate` arrivals a second, in seconds from its start: gaps of `-ln(1 - u) / rate`.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    random: Random,
    rate: f64,
    at: f64,
}

impl Arrivals {
    /// Arrivals at a rate above 0.
    pub(super) fn new(rate: f64, seed: u64) -> Self {
        Self { random: Random::new(seed), rate, at: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        self.at -= (1.0 - self.random.unit()).ln() / self.rate;
        Some(self.at)
    }
}

/// The nearest-rank quantile of numbers in ascending order: the smallest one that at least a share `q` of them does not exceed.
/// 0 where there are none.
pub(super) fn quantile(sorted: &[u32], q: f64) -> u32 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}

/// The slope of the least-squares line through points: Σ (x - x̄)(y - ȳ) / Σ (x - x̄)². `None` with fewer than three points, which
/// say nothing of a trend, and where all stand at one `x`.
pub(super) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let (mean_x, mean_y) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let across: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let along: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (points.len() >= 3 && along > 0.0).then(|| across / along)
}

/// The cosine of two vectors of one width, in f64.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// What a run reports of the times of its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many there were.
    pub count: usize,
    /// The median, in microseconds.
    pub p50: u32,
    /// In microseconds.
    pub p90: u32,
    /// In microseconds.
    pub p95: u32,
    /// In microseconds.
    pub p99: u32,
    /// In microseconds.
    pub max: u32,
}

impl Spread {
    /// The quantiles of times in any order.
    pub(super) fn of(mut times: Vec<u32>) -> Self {
        times.sort_unstable();
        let [p50, p90, p95, p99, max] = [0.5, 0.9, 0.95, 0.99, 1.0].map(|q| quantile(&times, q));
        Self { count: times.len(), p50, p90, p95, p99, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numbers_that_were_there() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0].map(|q| quantile(&hundred, q)), [1, 1, 50, 90, 95, 99, 100]);
        assert_eq!([0.5, 0.75, 0.99].map(|q| quantile(&[3, 5, 9], q)), [5, 9, 9]);
        assert_eq!((quantile(&[7], 0.5), quantile(&[], 0.5)), (7, 0));
        let spread = Spread::of(hundred.into_iter().rev().collect());
        assert_eq!(spread, Spread { count: 100, p50: 50, p90: 90, p95: 95, p99: 99, max: 100 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    #[test]
    fn the_slope_is_that_of_the_line() {
        let line: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x) * 1000.0, 5.0 + 0.25 * f64::from(x))).collect();
        assert!((slope(&line).unwrap() - 0.25e-3).abs() < 1e-12);
        // By hand: the means are 1 and 2, Σ of products 2, Σ of squares 2.
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]), Some(1.0));
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 4.0), (2.0, 1.0)]), Some(0.0));
        for nothing in [&[][..], &[(0.0, 1.0), (1.0, 2.0)], &[(3.0, 1.0), (3.0, 2.0), (3.0, 3.0)]] {
            assert_eq!(slope(nothing), None);
        }
    }

    /// Of 100,000 exponential gaps at rate 200 the mean is 5 ms with a standard error of 0.3 %, and a share 1 - 1/e is shorter than it.
    #[test]
    fn arrivals_are_a_poisson_process() {
        const N: usize = 100_000;
        let times: Vec<f64> = Arrivals::new(200.0, 7).take(N).collect();
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!((times[N - 1] / N as f64 - 0.005).abs() < 0.0001, "{}", times[N - 1]);
        let short = times.windows(2).filter(|pair| pair[1] - pair[0] < 0.005).count() as f64 / N as f64;
        assert!((short - 0.632).abs() < 0.01, "{short}");
        // As many as there are gaps, the variance of the count in a second is its mean.
        let mut seconds = vec![0f64; times[N - 1] as usize];
        times
            .iter()
            .filter_map(|t| Some(*t as usize).filter(|s| *s < seconds.len()))
            .collect::<Vec<_>>()
            .iter()
            .for_each(|second| seconds[*second] += 1.0);
        let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
        let variance = seconds.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / seconds.len() as f64;
        assert!((variance / mean - 1.0).abs() < 0.25, "{mean} {variance}");
        assert_eq!(times[..100], Arrivals::new(200.0, 7).take(100).collect::<Vec<_>>());
        assert_ne!(times[0], Arrivals::new(200.0, 8).next().unwrap());
    }

    #[test]
    fn random_numbers_stay_in_their_range() {
        let mut random = Random::new(1);
        let mut counts = [0usize; 7];
        for _ in 0..7000 {
            counts[random.below(7)] += 1;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        assert!(counts.iter().all(|n| (800..1200).contains(n)), "{counts:?}");
        // The first number of seed 0, as published with the generator.
        assert_eq!(Random::new(0).bits(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn the_cosine_does_not_depend_on_lengths() {
        assert_eq!(cosine(&[1.0, 0.0], &[5.0, 0.0]), 1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 2.0]), 0.0);
    }
}
