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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CostModel, Preset, QueueConfig, Request};

    const MS: Duration = Duration::from_millis(1);

    /// A queue of a model whose batches take so many seconds besides 0.2 ms a token, tuned for throughput: 1024 tokens, 5 ms.
    fn queue(seconds_per_batch: f64) -> Queue {
        let cost = CostModel { seconds_per_batch, ..CostModel::default() };
        Queue::new(QueueConfig::preset(Preset::Throughput, cost)).unwrap()
    }

    fn submit(queue: &mut Queue, request: Request) {
        queue.submit(Duration::ZERO, request).unwrap();
    }

    fn of(lengths: Vec<u32>) -> Request {
        Request { lengths, ..Request::default() }
    }

    #[test]
    fn nothing_goes_where_nothing_waits_or_all_slots_are_taken() {
        let mut queue = queue(1e-3);
        assert_eq!(queue.due(Duration::ZERO), Err(None));
        submit(&mut queue, of(vec![10]));
        queue.turn(Duration::ZERO);
        submit(&mut queue, Request { deadline: Some(9 * MS), ..of(vec![10]) });
        assert_eq!(queue.due(Duration::ZERO), Err(Some(9 * MS)));
    }

    #[test]
    fn small_batches_go_at_once_where_they_keep_up() {
        let mut queue = queue(1e-2);
        submit(&mut queue, of(vec![10]));
        assert_eq!(queue.due(Duration::ZERO), Ok(Reason::KeepsUp));
    }

    #[test]
    fn enough_is_enough() {
        let mut queue = queue(1e-2);
        // 0.01 s is a tenth of a batch of 0.1 s, which 422 tokens take.
        submit(&mut queue, of(vec![10; 45]));
        assert_eq!(queue.due(Duration::ZERO), Ok(Reason::Enough));
    }

    #[test]
    fn where_they_do_not_keep_up_the_oldest_waits_for_as_long_as_it_may() {
        // 100 tokens in the first moment are 1,000 a second, and 0.1 s each time is too long for that.
        let mut queue = queue(8e-2);
        submit(&mut queue, of(vec![10; 10]));
        assert_eq!(queue.due(Duration::ZERO), Err(Some(5 * MS)));
        assert_eq!(queue.due(5 * MS), Ok(Reason::Age));
        submit(&mut queue, Request { priority: Priority::High, ..of(vec![10]) });
        assert_eq!(queue.due(Duration::ZERO), Ok(Reason::Urgent));
        queue.set_memory_pressure(0.85);
        assert_eq!(queue.due(Duration::ZERO), Ok(Reason::Memory));
        submit(&mut queue, of(vec![100; 10]));
        assert_eq!(queue.due(Duration::ZERO), Ok(Reason::Full));
        queue.close();
        assert_eq!(queue.due(Duration::ZERO), Ok(Reason::Closing));
    }

    #[test]
    fn a_deadline_that_is_near_ends_the_wait() {
        let mut queue = queue(8e-2);
        // The batch takes 0.1 s.
        submit(&mut queue, Request { deadline: Some(206 * MS), ..of(vec![10; 10]) });
        let Err(Some(start)) = queue.due(Duration::ZERO) else { panic!("it waits for company first") };
        assert!(start > MS && start < 5 * MS, "{start:?}");
        assert_eq!(queue.due(start), Ok(Reason::Deadline));
    }
}
