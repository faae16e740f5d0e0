//! Which worker is next, and which may be asked at all: pure policy. Time and chance are arguments.
//!
//! A worker is serving or ejected. Failures in a row eject it; when its time is over, one probe and none of the caller's texts is sent to
//! it (the half-open state of a circuit breaker). The probe puts it back, or ejects it for twice the time. A worker that asks
//! for time rests: it is left alone until then, and that is no failure.

use super::{PoolOptions, Strategy, speed::Speed};
use std::time::Duration;

/// How long a worker rests that is busy and does not say for how long.
const REST: Duration = Duration::from_millis(500);

/// The workers of a pool, by their index.
#[derive(Debug)]
pub(super) struct Rotation {
    options: PoolOptions,
    seats: Vec<Seat>,
    /// From which worker on the next is looked for.
    turn: usize,
}

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    health: Health,
    /// Batches that may be under way at once.
    pub(super) slots: usize,
    /// Batches that are.
    pub(super) under_way: usize,
    /// Their tokens.
    tokens: u64,
    /// A probe is under way: it takes a slot.
    probed: bool,
    /// Whether it is probed while it is idle.
    watched: bool,
    /// When it was last heard of.
    heard: Duration,
    /// Since when the tokens under way have had no answer.
    since: Duration,
    /// The length of the next ejection.
    length: Duration,
    pub(super) speed: Speed,
    pub(super) counts: Counts,
}

/// Whether a worker is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Serving { failures: u32, rests_until: Duration },
    Ejected { until: Duration },
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Batches.
    pub(super) answered: u64,
    /// Batches that it failed or was too busy for.
    pub(super) failed: u64,
    /// Texts of the batches that were answered.
    pub(super) texts: u64,
    /// How often it left the rotation.
    pub(super) ejections: u64,
}

/// Who gets a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This worker; the batch counts as under way from now on.
    Take(usize),
    /// One that has no slot free.
    Full,
    /// Every worker that may be asked has failed the batch.
    Tried,
    /// All rest, the first until then.
    Resting(Duration),
    /// All are ejected.
    Down,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// So many texts were answered.
    Answered { texts: usize },
    /// The worker is well, and refuses a text.
    Refused,
    /// The worker asks for time.
    Busy(Option<Duration>),
    /// It may go away by itself.
    Failed,
    /// Another try would only repeat it.
    Broken,
    /// It answered, and failed the batch again: that may be the fault of the batch, which counts for one failure.
    Repeated,
}

impl Rotation {
    /// Workers that are all ejected, until a first probe, which is under way. Of each: its slots, and whether it is probed while idle.
    pub(super) fn new(options: PoolOptions, workers: impl IntoIterator<Item = (usize, bool)>) -> Self {
        let seat = |(slots, watched)| Seat {
            health: Health::Ejected { until: Duration::ZERO },
            slots,
            under_way: 0,
            tokens: 0,
            probed: true,
            watched,
            heard: Duration::ZERO,
            since: Duration::ZERO,
            length: options.eject_for,
            speed: Speed::default(),
            counts: Counts::default(),
        };
        Self { options, seats: workers.into_iter().map(seat).collect(), turn: 0 }
    }

    /// Chooses the worker for a batch of so many tokens. `tried` are those that failed it, by index; `chance` is drawn evenly from [0, 1).
    pub(super) fn choose(&mut self, now: Duration, tokens: u64, tried: &[bool], chance: f64) -> Choice {
        let serving = self.seats.iter().enumerate().filter_map(|(i, seat)| match seat.health {
            Health::Serving { rests_until, .. } => Some((i, seat, rests_until)),
            Health::Ejected { .. } => None,
        });
        let Some(earliest) = serving.clone().map(|(_, _, rests_until)| rests_until).min() else { return Choice::Down };
        let awake = serving.filter(|(_, _, rests_until)| *rests_until <= now).map(|(i, seat, _)| (i, seat));
        if awake.clone().next().is_none() {
            return Choice::Resting(earliest);
        }
        let mut fresh: Vec<usize> = awake.filter(|(i, _)| !tried[*i]).map(|(i, _)| i).collect();
        if fresh.is_empty() {
            return Choice::Tried;
        }
        fresh.retain(|i| self.seats[*i].has_room());
        // From whose turn it is, so that of several that are alike each gets its share.
        let count = self.seats.len();
        fresh.sort_by_key(|i| (i + count - self.turn) % count);
        let Some(chosen) = self.pick(now, tokens, &fresh, chance) else { return Choice::Full };
        self.turn = (chosen + 1) % count;
        let seat = &mut self.seats[chosen];
        if seat.under_way == 0 {
            seat.since = now;
        }
        seat.under_way += 1;
        seat.tokens += tokens;
        Choice::Take(chosen)
    }

    /// One of `fresh` by the strategy; of several that are alike the first.
    fn pick(&self, now: Duration, tokens: u64, fresh: &[usize], chance: f64) -> Option<usize> {
        let least = |key: &dyn Fn(&Seat) -> f64| {
            fresh.iter().copied().min_by(|a, b| key(&self.seats[*a]).total_cmp(&key(&self.seats[*b])))
        };
        match self.options.strategy {
            Strategy::RoundRobin => fresh.first().copied(),
            Strategy::LeastLoaded => least(&|seat| seat.under_way as f64 / seat.slots as f64),
            Strategy::Fastest => {
                let measured = self.seats.iter().filter_map(|seat| seat.speed.recent(now));
                let fastest = measured.fold(0.0, f64::max);
                let fastest = if fastest > 0.0 { fastest } else { 1.0 };
                least(&|seat| (seat.tokens + tokens) as f64 / seat.speed.recent(now).unwrap_or(fastest))
            }
            Strategy::Random => {
                let at = (chance.clamp(0.0, 1.0) * fresh.len() as f64) as usize;
                fresh.get(at).or(fresh.last()).copied()
            }
        }
    }

    /// Ends a batch that [`Choice::Take`] began.
    pub(super) fn finish(&mut self, now: Duration, worker: usize, tokens: u64, outcome: Outcome) {
        let options = self.options;
        let seat = &mut self.seats[worker];
        seat.under_way -= 1;
        seat.tokens -= tokens;
        if let Outcome::Answered { texts } = outcome {
            seat.counts.answered += 1;
            seat.counts.texts += texts as u64;
            seat.speed.add(now, tokens, now.saturating_sub(seat.since));
            if matches!(seat.health, Health::Serving { .. }) {
                seat.length = options.eject_for;
            }
        } else if outcome != Outcome::Refused {
            seat.counts.failed += 1;
        }
        (seat.since, seat.heard) = (now, now);
        seat.settle(now, outcome, &options);
    }

    /// The workers whose probe is due; it counts as under way from now on.
    pub(super) fn probes(&mut self, now: Duration) -> Vec<usize> {
        let every = self.options.health_every;
        let due = |seat: &Seat| seat.next_probe(every).is_some_and(|at| at <= now);
        let due: Vec<usize> = (0..self.seats.len()).filter(|&i| due(&self.seats[i])).collect();
        due.iter().for_each(|&i| self.seats[i].probed = true);
        due
    }

    /// When the next probe is due, as far as that is known now.
    pub(super) fn next_probe(&self) -> Option<Duration> {
        self.seats.iter().filter_map(|seat| seat.next_probe(self.options.health_every)).min()
    }

    /// Ends a probe. [`Outcome::Answered`] puts an ejected worker back.
    pub(super) fn probed(&mut self, now: Duration, worker: usize, outcome: Outcome) {
        let options = self.options;
        let seat = &mut self.seats[worker];
        (seat.probed, seat.heard) = (false, now);
        match (seat.health, outcome) {
            (Health::Ejected { .. }, Outcome::Answered { .. }) => {
                seat.health = Health::Serving { failures: 0, rests_until: Duration::ZERO };
            }
            (Health::Ejected { .. }, _) => seat.eject(now, &options),
            (Health::Serving { .. }, _) => seat.settle(now, outcome, &options),
        }
    }

    /// The workers by their index.
    pub(super) fn seats(&self) -> &[Seat] {
        &self.seats
    }
}

impl Seat {
    /// Whether it is in rotation, and whether it is left alone for now because it asked for that.
    pub(super) fn serves(&self, now: Duration) -> (bool, bool) {
        match self.health {
            Health::Serving { rests_until, .. } => (true, rests_until > now),
            Health::Ejected { .. } => (false, false),
        }
    }

    fn has_room(&self) -> bool {
        self.under_way + usize::from(self.probed) < self.slots
    }

    /// What an answer or a failure is for the health of a worker that serves. Of one that is ejected, probes alone decide.
    fn settle(&mut self, now: Duration, outcome: Outcome, options: &PoolOptions) {
        let Health::Serving { failures, rests_until } = &mut self.health else { return };
        match outcome {
            Outcome::Answered { .. } | Outcome::Refused => *failures = 0,
            Outcome::Repeated => {}
            Outcome::Busy(asked) => *rests_until = (*rests_until).max(now.saturating_add(asked.unwrap_or(REST))),
            Outcome::Failed if *failures + 1 < options.eject_after => *failures += 1,
            Outcome::Failed | Outcome::Broken => {
                self.counts.ejections += 1;
                self.eject(now, options);
            }
        }
    }

    fn eject(&mut self, now: Duration, options: &PoolOptions) {
        self.health = Health::Ejected { until: now.saturating_add(self.length) };
        self.length = self.length.saturating_mul(2).min(options.eject_at_most);
    }

    fn next_probe(&self, every: Duration) -> Option<Duration> {
        match self.health {
            _ if !self.has_room() || self.probed => None,
            Health::Ejected { until } => Some(until),
            Health::Serving { rests_until, .. } if self.watched && self.under_way == 0 => {
                Some(self.heard.checked_add(every)?.max(rests_until))
            }
            Health::Serving { .. } => None,
        }
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
