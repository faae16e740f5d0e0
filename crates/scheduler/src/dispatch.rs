//! When a batch goes.

use crate::{Priority, Queue, Reason, waiting::Open};
use std::time::Duration;

/// The share of the machine up to which batches of what waits are said to keep up with what arrives.
const KEEPS_UP: f64 = 0.7;
/// The share of a batch's seconds beyond its fixed ones from which more would gain little.
const ENOUGH: f64 = 0.9;

impl Queue {
    /// Why a batch goes now, or when to look again.
    ///
    /// With `w` the charge that waits, `t(w)` the seconds of it as one batch as measured, `λ` the charge that arrives in a second: a
    /// batch waits for company only while batches of what waits could not keep up, `λ · t(w) / w > 0.7`, and its fixed seconds are
    /// more than a tenth of it, and the oldest is younger than [`crate::QueueConfig::wait`], and nothing is urgent.
    pub(crate) fn due(&self, now: Duration) -> Result<Reason, Option<Duration>> {
        let expiry = self.next_deadline();
        let (Some(oldest), true) = (self.oldest(), self.slots_free()) else { return Err(expiry) };
        if self.closed {
            return Ok(Reason::Closing);
        }
        let total = self.waiting.total();
        if total.tokens >= self.limits().tokens || total.sequences >= self.config.batch_sequences {
            return Ok(Reason::Full);
        }
        if self.pressure > self.config.memory.shrink_above {
            return Ok(Reason::Memory);
        }
        if self.waiting.class(Priority::High).sequences > 0 {
            return Ok(Reason::Urgent);
        }
        let aged = oldest.saturating_add(self.config.wait);
        if aged <= now {
            return Ok(Reason::Age);
        }
        let charge = self.charge_waiting();
        let seconds = self.optimizer.seconds_of_charge(charge);
        if charge >= self.optimizer.charge_at_share(ENOUGH) {
            return Ok(Reason::Enough);
        }
        if self.arrivals.per_second(now) * seconds / charge <= KEEPS_UP * self.config.slots as f64 {
            return Ok(Reason::KeepsUp);
        }
        // The latest start that leaves a deadline twice the time that the batch is expected to take.
        let margin = Duration::try_from_secs_f64(2.0 * seconds).unwrap_or(Duration::MAX);
        let waits = |id| self.waiting.get(id).is_some_and(Open::waits);
        let start = self.deadlines.iter().find(|(_, id)| waits(*id)).map(|(at, _)| at.saturating_sub(margin));
        if start.is_some_and(|start| start <= now) {
            return Ok(Reason::Deadline);
        }
        Err([Some(aged), start, expiry].into_iter().flatten().min())
    }
}
