//! Arrivals of several kinds, from a seed.

use embral_scheduler::{Priority, Request, Tenant};
use std::time::Duration;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1, neither included.
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub(crate) fn exponential(&mut self, rate: f64) -> f64 {
        -self.uniform().ln() / rate
    }

    /// Lengths of queries and sentences.
    pub(crate) fn short(&mut self) -> u32 {
        (2.9 + 0.5 * self.normal()).exp().clamp(4.0, 128.0) as u32
    }

    /// Lengths with a heavy tail: most are short, and the few at 512 hold much of the tokens (Pareto, α = 1.1).
    pub(crate) fn heavy(&mut self) -> u32 {
        (8.0 * self.uniform().powf(-1.0 / 1.1)).min(512.0) as u32
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    pub(crate) request: Request,
}

pub(crate) fn arrival(at: f64, tenant: u64, priority: Priority, lengths: Vec<u32>) -> Arrival {
    let request = Request { tenant: Tenant(tenant), priority, lengths, deadline: None };
    Arrival { at: Duration::from_secs_f64(at), request }
}

/// Arrivals at a rate that changes with time, by thinning: `most` is the highest.
pub(crate) fn poisson(
    random: &mut Random,
    seconds: f64,
    most: f64,
    rate: impl Fn(f64) -> f64,
    mut request: impl FnMut(&mut Random, f64) -> Arrival,
) -> Vec<Arrival> {
    let (mut now, mut arrivals) = (0.0, Vec::new());
    loop {
        now += random.exponential(most);
        if now >= seconds {
            return arrivals;
        }
        if random.uniform() * most <= rate(now) {
            arrivals.push(request(random, now));
        }
    }
}

pub(crate) fn merge(traces: Vec<Vec<Arrival>>) -> Vec<Arrival> {
    let mut all: Vec<Arrival> = traces.into_iter().flatten().collect();
    all.sort_by_key(|arrival| arrival.at);
    all
}

/// The lines of recorded.csv.
pub(crate) fn recorded() -> Vec<Arrival> {
    let lines = include_str!("recorded.csv").lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    lines.map(parse).collect()
}

fn parse(line: &str) -> Arrival {
    let columns: Vec<&str> = line.split(',').collect();
    let [at, tenant, priority, lengths] = columns[..] else { panic!("four columns, not {line:?}") };
    let priority = match priority {
        "high" => Priority::High,
        "normal" => Priority::Normal,
        _ => Priority::Low,
    };
    let lengths = lengths.split(' ').map(|tokens| tokens.parse().unwrap()).collect();
    arrival(at.parse::<f64>().unwrap() * 1e-6, tenant.parse().unwrap(), priority, lengths)
}
