//! The budget of a batch, moved by what is measured.

use crate::curve::{STEPS, ThroughputCurve, size, step};
use embral_types::{Error, ErrorKind, Result};
use std::{collections::VecDeque, time::Duration};

/// What a queue is tuned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// The most tokens a second.
    #[default]
    Throughput,
    /// Short batches: who comes waits for one that runs, then for its own.
    Latency,
    /// Small batches, at a price in throughput.
    Memory,
}

impl std::str::FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "throughput" => Ok(Self::Throughput),
            "latency" => Ok(Self::Latency),
            "memory" => Ok(Self::Memory),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("expected one of throughput, latency, memory; found {name:?}"),
            )),
        }
    }
}

/// How the budget is moved, and between which bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TunerConfig {
    /// The smallest budget in tokens.
    pub least_tokens: u64,
    /// The largest.
    pub most_tokens: u64,
    /// The budget at the start.
    pub first_tokens: u64,
    /// What a larger budget has to gain in throughput, as a fraction.
    pub gain: f64,
    /// What a smaller one may lose.
    pub give: f64,
    /// What may be lost in all, of the best throughput that is known of any budget.
    pub lose: f64,
    /// The latency of a request that is aimed at. A batch may take half of it: who comes waits for one that runs, and for its own.
    pub latency: Duration,
}

impl TunerConfig {
    /// The numbers of a preset.
    pub fn preset(preset: Preset) -> Self {
        let all = Self {
            least_tokens: 64,
            most_tokens: 65_536,
            first_tokens: 1024,
            gain: 0.01,
            give: 0.004,
            lose: 0.02,
            latency: Duration::from_secs(2),
        };
        match preset {
            Preset::Throughput => all,
            Preset::Latency => Self {
                most_tokens: 16_384,
                gain: 0.08,
                give: 0.06,
                lose: 0.3,
                latency: Duration::from_millis(200),
                ..all
            },
            Preset::Memory => Self {
                most_tokens: 4096,
                first_tokens: 512,
                gain: 0.08,
                give: 0.06,
                lose: 0.3,
                latency: Duration::from_secs(1),
                ..all
            },
        }
    }

    /// Seconds that a batch may take.
    pub fn batch_seconds(&self) -> f64 {
        self.latency.as_secs_f64() / 2.0
    }

    /// Whether the numbers make sense together.
    ///
    /// # Errors
    /// Where the bounds are empty, or where what is lost on the way down would be gained on the way up: `(1 + gain) · (1 − give) > 1`
    /// keeps the budget from going to and fro.
    pub fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if !(1..=self.most_tokens).contains(&self.least_tokens) {
            return invalid(format!(
                "the tuner's least_tokens must be 1 to most_tokens ({}); found {}",
                self.most_tokens, self.least_tokens
            ));
        }
        if self.latency.is_zero() {
            return invalid("the tuner's latency must be more than 0; found 0".to_owned());
        }
        if !(0.0..=1.0).contains(&self.lose) {
            return invalid(format!("the tuner's lose must be 0 to 1; found {}", self.lose));
        }
        let apart = (1.0 + self.gain) * (1.0 - self.give) > 1.0;
        if !(apart && self.gain < 10.0 && (0.0..1.0).contains(&self.give)) {
            return invalid(format!(
                "the tuner's gain and give must be fractions with (1 + gain) (1 - give) above 1; found {} and {}",
                self.gain, self.give
            ));
        }
        Ok(())
    }
}

/// What a batch did, as the tuner sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The budget that the batch was formed with, in tokens.
    pub budget: f64,
    /// Its tokens, by charge.
    pub charge: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Whether more waited than the budget let in.
    pub filled: bool,
    /// The largest budget that memory and latency allow by the cost model, for lengths as they come.
    pub cap: f64,
    /// Its sequences.
    pub sequences: f64,
}

/// Follows latency and throughput over a sliding window and moves the budget of batches by half octaves.
///
/// Every 16 batches, in this order:
///
/// 1. Above what memory and latency allow by the cost model, the budget goes down to it.
/// 2. Where the 95th percentile of batches takes more than half of the latency aimed at, and that of requests more than all of it, the
///    budget goes down a step, and does not come back to the old one for some rounds, twice as many each time.
/// 3. Unless half of the batches were filled, nothing is learnt by moving, and the budget stays.
/// 4. With `r(b)` the tokens a second measured at a budget `b` and `s` the standard error of the difference, it goes down where
///    `r(b/√2) ≥ (1 − give) · r(b) − s / 2`, and up where `r(b·√2) ≥ (1 + gain) · r(b) + s`. Many small losses are a large one: it does
///    not go down to where `r` is below `1 − lose` of the best that is known, and goes up from there to where the best is. A budget never
///    tried is tried, the larger one first; none of fewer than four sequences as they come, among which whole sequences would make steps.
/// 5. What was measured beside the budget is forgotten after some rounds, twice as many each time, so that it is tried again.
///
/// Since `(1 + gain)(1 − give) > 1`, no two budgets beat each other, and since pauses double, moves become ever fewer while the
/// machine stays as it is. Where the throughput of a budget leaves what is known of it by a quarter, the machine has changed: all is
/// forgotten and pauses begin anew.
#[derive(Clone, Debug)]
pub struct AdaptivePerformanceTuner {
    config: TunerConfig,
    level: usize,
    curve: ThroughputCurve,
    /// Of the present budget, the latest last.
    batches: VecDeque<Observation>,
    latencies: VecDeque<f64>,
    /// Tokens of a sequence: a mean over about 16 batches.
    sequence: Option<f64>,
    /// Batches since the last round.
    fresh: usize,
    round: u64,
    /// The round at which a step may be tried again, and the pause after the next failure.
    barred: [(u64, u64); STEPS],
    stale_at: u64,
    pause: u64,
    moves: u64,
}

/// Batches of a round.
const ROUND: usize = 16;
/// Batches that are looked back on.
const WINDOW: usize = 64;
/// Latencies that are looked back on.
const LATENCIES: usize = 256;
/// Sequences of the smallest budget that is tried.
const FEWEST: f64 = 4.0;
/// Rounds of the first pause, and of the longest.
const FIRST_PAUSE: u64 = 4;
const LONGEST_PAUSE: u64 = 512;

impl AdaptivePerformanceTuner {
    /// Begins at the first budget, within the bounds.
    ///
    /// # Errors
    /// As [`TunerConfig::check`].
    pub fn new(config: TunerConfig) -> Result<Self> {
        config.check()?;
        let first = config.first_tokens.clamp(config.least_tokens, config.most_tokens);
        Ok(Self {
            level: step(first as f64),
            config,
            curve: ThroughputCurve::new(),
            batches: VecDeque::new(),
            latencies: VecDeque::new(),
            sequence: None,
            fresh: 0,
            round: 0,
            barred: [(0, FIRST_PAUSE); STEPS],
            stale_at: FIRST_PAUSE,
            pause: FIRST_PAUSE,
            moves: 0,
        })
    }

    /// Tokens of a batch.
    pub fn budget(&self) -> u64 {
        // A step is at most 2^32 tokens.
        (size(self.level).round() as u64).clamp(self.config.least_tokens, self.config.most_tokens)
    }

    /// How often the budget was moved.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// The numbers that it follows.
    pub fn config(&self) -> &TunerConfig {
        &self.config
    }

    /// The seconds that requests took from their arrival on, at a quantile of those in the window.
    pub fn latency(&self, quantile: f64) -> Option<f64> {
        percentile(self.latencies.iter().copied(), quantile)
    }

    /// Tokens a second by charge, over the batches of the window.
    pub fn throughput(&self) -> Option<f64> {
        let (charge, seconds) =
            self.batches.iter().fold((0.0, 0.0), |(charge, seconds), b| (charge + b.charge, seconds + b.seconds));
        (seconds > 0.0).then(|| charge / seconds)
    }

    /// What was measured: tokens of the budget, tokens a second by charge, batches that count.
    pub fn curve(&self) -> Vec<(f64, f64, f64)> {
        self.curve.points()
    }

    /// Takes in the seconds between a request's arrival and its answer.
    pub fn observe_latency(&mut self, seconds: f64) {
        if seconds.is_finite() {
            if self.latencies.len() == LATENCIES {
                self.latencies.pop_front();
            }
            self.latencies.push_back(seconds);
        }
    }

    /// Takes in a batch, and moves the budget where it is time to. Measurements that are no positive number say nothing.
    pub fn observe(&mut self, batch: Observation) {
        let rate = batch.charge / batch.seconds;
        if !(rate.is_finite() && rate > 0.0 && batch.seconds > 0.0) {
            return;
        }
        let present = batch.budget == self.budget() as f64;
        if batch.filled {
            // Rounded to whole tokens, the smallest budgets are not the sizes of their steps.
            self.curve.observe(if present { size(self.level) } else { batch.budget }, rate);
        }
        if batch.sequences >= 1.0 {
            let each = batch.charge / batch.sequences;
            let mean = self.sequence.get_or_insert(each);
            *mean += (each - *mean) / ROUND as f64;
        }
        // A batch of another budget, formed before the last move, belongs to the curve only.
        if present || !batch.filled {
            if self.batches.len() == WINDOW {
                self.batches.pop_front();
            }
            self.batches.push_back(batch);
            self.fresh += 1;
        }
        if self.fresh >= ROUND {
            self.fresh = 0;
            self.round += 1;
            self.judge(batch.cap);
        }
    }

    fn judge(&mut self, cap: f64) {
        let (least, most) = (step(self.config.least_tokens as f64), step(self.config.most_tokens as f64));
        let allowed = step(cap).clamp(least, most);
        if self.level > allowed {
            return self.go(allowed);
        }
        let least = step(FEWEST * self.sequence.unwrap_or(0.0)).clamp(least, allowed);
        let round = || self.batches.iter().rev().take(ROUND);
        let slow = percentile(round().map(|b| b.seconds), 0.95) > Some(self.config.batch_seconds())
            && self.latency(0.95) > Some(self.config.latency.as_secs_f64());
        if slow && self.level > step(self.config.least_tokens as f64) {
            let (until, pause) = &mut self.barred[self.level];
            *until = self.round + *pause;
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            return self.go(self.level - 1);
        }
        let filled: Vec<f64> = round().filter(|b| b.filled).map(|b| b.charge / b.seconds).collect();
        if filled.len() < ROUND / 2 {
            return;
        }
        let Some(here) = self.curve.at(self.level) else { return };
        let recent = filled.iter().sum::<f64>() / filled.len() as f64;
        if !(0.75..1.33).contains(&(recent / here.rate)) {
            self.begin_anew(&filled);
            return;
        }
        if self.round >= self.stale_at {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.stale_at = self.round + self.pause;
            self.curve.forget(self.level + 1);
            if let Some(below) = self.level.checked_sub(1) {
                self.curve.forget(below);
            }
        }
        let known = |step: usize| self.curve.at(step).filter(|m| m.count >= ROUND as f64 / 2.0);
        let may_rise = self.level < allowed && self.barred[self.level + 1].0 <= self.round;
        let above = known(self.level + 1);
        let below = self.level.checked_sub(1).and_then(known);
        // The best of several means is the luckiest of them: each counts as less than it is by its error.
        let sure = |step: usize| known(step).map_or(0.0, |m| m.rate - m.error);
        let best = (0..=allowed).max_by(|a, b| sure(*a).total_cmp(&sure(*b))).unwrap_or(self.level);
        let enough = (1.0 - self.config.lose) * sure(best);
        let falls = self.level > least
            && below.is_some_and(|b| {
                b.rate >= ((1.0 - self.config.give) * here.rate - b.error.hypot(here.error) / 2.0).max(enough)
            });
        let rises = may_rise
            && (self.level < least
                || best > self.level && here.rate < enough
                || above.is_none_or(|a| a.rate >= (1.0 + self.config.gain) * here.rate + a.error.hypot(here.error)));
        if falls {
            self.go(self.level - 1);
        } else if rises {
            self.go(self.level + 1);
        } else if below.is_none() && self.level > least {
            self.go(self.level - 1);
        }
    }

    /// Nothing that was measured before `rates` holds any more.
    fn begin_anew(&mut self, rates: &[f64]) {
        self.curve = ThroughputCurve::new();
        rates.iter().for_each(|rate| self.curve.observe(size(self.level), *rate));
        self.barred = [(0, FIRST_PAUSE); STEPS];
        self.pause = FIRST_PAUSE;
        self.stale_at = self.round + FIRST_PAUSE;
    }

    fn go(&mut self, level: usize) {
        self.level = level;
        self.moves += 1;
        self.batches.clear();
        self.fresh = 0;
    }
}

fn percentile(values: impl Iterator<Item = f64>, quantile: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    // The index is within the list for any quantile: the cast saturates, and `min` ends it.
    let at = (quantile * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A machine that takes `overhead` and `per_token` seconds, and half as long again for what is above `cache` tokens.
    #[derive(Clone, Copy)]
    struct Machine {
        overhead: f64,
        per_token: f64,
        cache: f64,
        noise: f64,
    }

    impl Machine {
        fn seconds(&self, tokens: f64) -> f64 {
            self.overhead + self.per_token * (tokens + 0.5 * (tokens - self.cache).max(0.0))
        }

        fn rate(&self, tokens: f64) -> f64 {
            tokens / self.seconds(tokens)
        }
    }

    const MACHINE: Machine = Machine { overhead: 2e-3, per_token: 1e-5, cache: f64::INFINITY, noise: 0.03 };

    /// Full batches, as many as are asked for; the budgets after each.
    fn run(tuner: &mut AdaptivePerformanceTuner, machine: Machine, batches: usize, seed: u64) -> Vec<u64> {
        let mut state = seed;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        (0..batches)
            .map(|_| {
                let budget = tuner.budget() as f64;
                // A sum of uniform numbers, near enough to a bell.
                let bell = (0..6).map(|_| uniform()).sum::<f64>() - 3.0;
                let seconds = machine.seconds(budget) * (machine.noise * bell * 1.41).exp();
                tuner.observe_latency(2.0 * seconds);
                let cap = tuner.config.batch_seconds() / machine.per_token;
                tuner.observe(Observation {
                    budget,
                    charge: budget,
                    seconds,
                    filled: true,
                    cap,
                    sequences: budget / 10.0,
                });
                tuner.budget()
            })
            .collect()
    }

    fn tuner(preset: Preset) -> AdaptivePerformanceTuner {
        AdaptivePerformanceTuner::new(TunerConfig::preset(preset)).unwrap()
    }

    fn mean_rate(machine: Machine, budgets: &[u64]) -> f64 {
        let tokens: f64 = budgets.iter().map(|b| *b as f64).sum();
        tokens / budgets.iter().map(|b| machine.seconds(*b as f64)).sum::<f64>()
    }

    #[test]
    fn throughput_comes_within_a_twentieth_of_the_best_from_below_and_above() {
        for (seed, first_tokens, cache, noise) in [
            (1, 64, f64::INFINITY, 0.0),
            (2, 64, f64::INFINITY, 0.03),
            (3, 65_536, f64::INFINITY, 0.03),
            (4, 64, 2000.0, 0.03),
            (5, 65_536, 2000.0, 0.03),
            (6, 4096, 2000.0, 0.1),
            (7, 256, f64::INFINITY, 0.1),
        ] {
            let machine = Machine { cache, noise, ..MACHINE };
            let config = TunerConfig { first_tokens, ..TunerConfig::preset(Preset::Throughput) };
            let mut tuner = AdaptivePerformanceTuner::new(config).unwrap();
            let budgets = run(&mut tuner, machine, 6000, seed);
            let best = (12..=32).map(|step| machine.rate(size(step))).fold(0.0, f64::max);
            let got = mean_rate(machine, &budgets[3000..]);
            assert!(got > 0.95 * best, "{seed}: {got} of {best}, budget {}", tuner.budget());
        }
    }

    #[test]
    fn it_leaves_the_smallest_budget_there_is() {
        let config = TunerConfig { least_tokens: 1, first_tokens: 1, ..TunerConfig::preset(Preset::Throughput) };
        let mut tuner = AdaptivePerformanceTuner::new(config).unwrap();
        run(&mut tuner, MACHINE, 3000, 9);
        assert!(tuner.budget() > 500, "{}", tuner.budget());
    }

    #[test]
    fn moves_become_ever_fewer() {
        for seed in 0..20 {
            for preset in [Preset::Throughput, Preset::Latency, Preset::Memory] {
                let mut tuner = tuner(preset);
                run(&mut tuner, MACHINE, 20_000, seed);
                let settling = tuner.moves();
                run(&mut tuner, MACHINE, 40_000, seed + 100);
                let later = tuner.moves() - settling;
                // 40,000 batches are 2,500 rounds.
                assert!(settling < 200 && later < 60, "{preset:?} {seed}: {settling} moves, then {later}");
            }
        }
    }

    #[test]
    fn latency_gives_throughput_away_for_shorter_batches() {
        let (mut quick, mut full) = (tuner(Preset::Latency), tuner(Preset::Throughput));
        run(&mut quick, MACHINE, 5000, 1);
        run(&mut full, MACHINE, 5000, 1);
        assert!(quick.budget() * 2 <= full.budget(), "{} and {}", quick.budget(), full.budget());
        assert!(MACHINE.seconds(quick.budget() as f64) <= quick.config.batch_seconds());
    }

    #[test]
    fn a_machine_that_becomes_slower_is_followed_and_so_is_one_that_recovers() {
        let slow = Machine { overhead: 2e-2, per_token: 1e-4, ..MACHINE };
        let mut tuner = tuner(Preset::Latency);
        run(&mut tuner, MACHINE, 3000, 1);
        let before = tuner.budget();
        run(&mut tuner, slow, 1000, 2);
        assert!(slow.seconds(tuner.budget() as f64) <= tuner.config.batch_seconds(), "{}", tuner.budget());
        run(&mut tuner, MACHINE, 3000, 3);
        let after = tuner.budget();
        assert!(before <= after * 2 && after <= before * 2, "{before} and {after}");
    }

    #[test]
    fn batches_that_nobody_fills_move_nothing() {
        let mut tuner = tuner(Preset::Throughput);
        for _ in 0..1000 {
            let budget = tuner.budget() as f64;
            tuner.observe(Observation { budget, charge: 20.0, seconds: 1e-3, filled: false, cap: 1e9, sequences: 1.0 });
        }
        assert_eq!((tuner.moves(), tuner.budget()), (0, 1024));
    }

    proptest! {
        #[test]
        fn the_bounds_hold_whatever_is_measured(
            seen in proptest::collection::vec((proptest::num::f64::ANY, proptest::num::f64::ANY, any::<bool>(), 1.0_f64..1e6), 0..400),
            least in 1_u64..5000, more in 0_u64..50_000, first in 0_u64..100_000,
        ) {
            let config = TunerConfig { least_tokens: least, most_tokens: least + more, first_tokens: first, ..TunerConfig::preset(Preset::Latency) };
            let mut tuner = AdaptivePerformanceTuner::new(config).unwrap();
            for (charge, seconds, filled, cap) in seen {
                tuner.observe_latency(seconds);
                let budget = tuner.budget() as f64;
                tuner.observe(Observation { budget, charge: charge.abs(), seconds: seconds.abs(), filled, cap, sequences: 3.0 });
                prop_assert!((least..=least + more).contains(&tuner.budget()));
            }
        }
    }

    #[test]
    fn numbers_that_would_swing_are_refused() {
        let config = TunerConfig { gain: 0.05, give: 0.06, ..TunerConfig::preset(Preset::Latency) };
        assert!(config.check().unwrap_err().to_string().contains("gain"));
        let config = TunerConfig { least_tokens: 9, most_tokens: 8, ..TunerConfig::preset(Preset::Latency) };
        assert!(config.check().unwrap_err().to_string().contains("least_tokens"));
        assert_eq!("memory".parse::<Preset>().unwrap(), Preset::Memory);
        assert!("fast".parse::<Preset>().unwrap_err().to_string().contains("fast"));
    }
}
