//! What is accepted, and when what is not should come again.

use crate::{Queue, Refusal, Refused, Request, config::Capacity};
use std::time::Duration;

/// A client is never told to come sooner, so that a crowd of them does not knock all the time.
const SOONEST: f64 = 0.1;
/// A client is never told to stay away for longer.
const LATEST: f64 = 60.0;
/// Seconds after which memory is looked at again, at the least.
const MEMORY_SECONDS: f64 = 1.0;

impl Queue {
    /// Whether a request of `n` tokens may wait. With `C` the capacity, `C_p` the part of it for its priority, `q` the tokens that wait, `h`
    /// those of the same tenant:
    ///
    /// ```text
    /// q + n ≤ C_p        and        h + n ≤ α (C − q)
    /// ```
    pub(crate) fn admit(&self, now: Duration, request: &Request) -> Result<(), Refused> {
        let never = |cause| Err(Refused { cause, retry_after: None });
        if self.closed {
            return never(Refusal::Closed);
        }
        if request.lengths.is_empty() {
            return never(Refusal::Empty);
        }
        if request.deadline.is_some_and(|deadline| deadline <= now) {
            return never(Refusal::Expired);
        }
        let Capacity { requests, tokens: capacity, by_priority, tenant } = self.config.capacity;
        let n: u64 = request.lengths.iter().map(|tokens| u64::from((*tokens).max(1))).sum();
        let share = by_priority[request.priority.index()];
        // Rounding down: a share of the room is not more than it. The whole is taken as it is, since f64 may not hold it.
        let part = |whole: u64| if share < 1.0 { (whole as f64 * share) as u64 } else { whole };
        if n > part(capacity) {
            return never(Refusal::TooLarge);
        }
        if !self.admitting {
            let half = self.waiting.total().tokens as f64 / 2.0;
            let seconds = self.seconds_to_drain(half).max(MEMORY_SECONDS);
            return Err(Refused { cause: Refusal::Memory, retry_after: Some(bounded(seconds)) });
        }
        let q = self.waiting.total().tokens;
        let crowd = self.waiting.requests();
        let most = part(requests as u64).max(1);
        if q.saturating_add(n) > part(capacity) || crowd as u64 >= most {
            let tokens = q.saturating_add(n).saturating_sub(part(capacity)) as f64;
            let each = q as f64 / crowd.max(1) as f64;
            let beyond = (crowd as u64 + 1).saturating_sub(most) as f64 * each;
            let after = bounded(self.seconds_to_drain(tokens.max(beyond)));
            return Err(Refused { cause: Refusal::Full, retry_after: Some(after) });
        }
        if let Some(alpha) = tenant {
            let held = self.waiting.held_by(request.tenant).tokens.saturating_add(n) as f64;
            let over = held - alpha * (capacity - q) as f64;
            if over > 0.0 {
                // What drains frees α times itself of room, and the tenant's part of it besides.
                let tokens = over / (alpha + 1.0 / self.waiting.tenants().max(1) as f64);
                let after = bounded(self.seconds_to_drain(tokens));
                return Err(Refused { cause: Refusal::Share, retry_after: Some(after) });
            }
        }
        Ok(())
    }

    /// Seconds until so many of the tokens that wait are in batches, and a place in the next batch is free: at the rate measured, or as
    /// the cost model has it while nothing is measured.
    fn seconds_to_drain(&self, tokens: f64) -> f64 {
        let total = self.waiting.total();
        let cost = &self.config.cost;
        let charged =
            1.0 + total.pairs as f64 / total.tokens.max(1) as f64 * cost.flops_per_pair / cost.flops_per_token;
        let guess = cost.flops_per_second / cost.flops_per_token;
        let rate = self.service.per_second().unwrap_or(guess) * self.config.slots as f64;
        let batch = self.limits().tokens as f64;
        // What leaves, leaves in whole batches.
        (tokens / batch).ceil() * batch.min(total.tokens as f64) * charged / rate
    }
}

fn bounded(seconds: f64) -> Duration {
    Duration::from_secs_f64(if seconds.is_finite() { seconds.clamp(SOONEST, LATEST) } else { LATEST })
}
