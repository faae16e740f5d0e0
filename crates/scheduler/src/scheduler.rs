//! Several models on one machine: a queue each, and whose batch is next.

use crate::{Batch, Next, Queue, RequestId, fair::FairOrder};
use embral_types::{Error, ErrorKind, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What a look at all queues found.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelTurn<K> {
    /// Requests that have ended: their deadline passed, or would before the end of a batch that goes now.
    pub expired: Vec<(K, RequestId)>,
    /// What to do, and for which model.
    pub next: ModelNext<K>,
}

/// What is to be done next, on a machine of several models.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelNext<K> {
    /// To compute this batch of this model, and to ask again.
    Run(K, Batch),
    /// To wait for an event, or for this time.
    Wait(Option<Duration>),
}

/// The queues of several models that share one machine.
///
/// Of the models whose queues have a batch to go, the one is next that has had the least of the machine, in expected seconds over its
/// weight, while others waited, by start-time fair queueing: a model that is asked for something once in a while does not wait behind the backlog of
/// another, only for the batch that runs.
#[derive(Debug)]
pub struct Scheduler<K> {
    queues: BTreeMap<K, (Queue, f64)>,
    order: FairOrder<K>,
    slots: usize,
}

impl<K: Ord + Clone> Scheduler<K> {
    /// No model yet; so many batches run at once, of whichever models.
    ///
    /// # Errors
    /// Where no batch may run.
    pub fn new(slots: usize) -> Result<Self> {
        if slots == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "a scheduler's slots must be 1 or more; found 0"));
        }
        Ok(Self { queues: BTreeMap::new(), order: FairOrder::default(), slots })
    }

    /// Adds a model with its share of the machine. Returns the queue that it takes the place of.
    ///
    /// # Errors
    /// Where the weight is no positive number.
    pub fn insert(&mut self, model: K, queue: Queue, weight: f64) -> Result<Option<Queue>> {
        if !(weight.is_finite() && weight > 0.0) {
            let message = format!("a model's weight must be a finite number above 0; found {weight}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(self.queues.insert(model, (queue, weight)).map(|(queue, _)| queue))
    }

    /// Takes a model out, with what waits and runs of it.
    pub fn remove(&mut self, model: &K) -> Option<Queue> {
        self.order.leave(model.clone());
        self.queues.remove(model).map(|(queue, _)| queue)
    }

    /// The queue of a model, to look at.
    pub fn get(&self, model: &K) -> Option<&Queue> {
        self.queues.get(model).map(|(queue, _)| queue)
    }

    /// The queue of a model, to tell it of requests and of the ends of batches.
    pub fn get_mut(&mut self, model: &K) -> Option<&mut Queue> {
        self.queues.get_mut(model).map(|(queue, _)| queue)
    }

    /// All queues.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Queue)> {
        self.queues.iter().map(|(model, (queue, _))| (model, queue))
    }

    /// Says what fraction of memory is in use, to all queues.
    pub fn set_memory_pressure(&mut self, fraction: f64) {
        self.queues.values_mut().for_each(|(queue, _)| queue.set_memory_pressure(fraction));
    }

    /// Ends what is too late, and says what to do next. O(models), and as [`Queue::turn`] for the one that is next.
    pub fn turn(&mut self, now: Duration) -> ModelTurn<K> {
        let mut expired = Vec::new();
        for (model, (queue, _)) in &mut self.queues {
            expired.extend(queue.expire(now).into_iter().map(|id| (model.clone(), id)));
        }
        let running: usize = self.queues.values().map(|(queue, _)| queue.batches_running()).sum();
        loop {
            let (mut wake, mut due) = (None, BTreeSet::new());
            for (model, (queue, weight)) in &self.queues {
                if queue.is_waiting() {
                    self.order.enter(model.clone(), *weight);
                } else {
                    self.order.leave(model.clone());
                }
                let at = match queue.is_due(now) {
                    Ok(()) => {
                        due.insert(model.clone());
                        queue.next_deadline()
                    }
                    Err(at) => at,
                };
                wake = [wake, at].into_iter().flatten().min();
            }
            let next = self.order.iter().find(|model| running < self.slots && due.contains(model)).cloned();
            let next = next.and_then(|model| self.queues.get_mut(&model).map(|queue| (model, queue)));
            let Some((model, (queue, _))) = next else {
                return ModelTurn { expired, next: ModelNext::Wait(wake) };
            };
            let turn = queue.turn(now);
            expired.extend(turn.expired.into_iter().map(|id| (model.clone(), id)));
            // A queue may wait after all, where all that was due in it would have been late.
            if let Next::Run(batch) = turn.next {
                self.order.charge(model.clone(), batch.expected.as_secs_f64());
                return ModelTurn { expired, next: ModelNext::Run(model, batch) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Measured, QueueConfig, Request};

    fn queue() -> Queue {
        Queue::new(QueueConfig::default()).unwrap()
    }

    fn submit(scheduler: &mut Scheduler<&str>, model: &str, sequences: usize, deadline: Option<Duration>) -> RequestId {
        let request = Request { lengths: vec![100; sequences], deadline, ..Request::default() };
        let model = *scheduler.iter().find(|(known, _)| **known == model).unwrap().0;
        scheduler.get_mut(&model).unwrap().submit(Duration::ZERO, request).unwrap()
    }

    /// Runs batches one after the other; the seconds that each model had.
    fn run(scheduler: &mut Scheduler<&'static str>, batches: usize) -> BTreeMap<&'static str, f64> {
        let (mut now, mut seconds) = (Duration::ZERO, BTreeMap::new());
        for _ in 0..batches {
            let ModelNext::Run(model, batch) = scheduler.turn(now).next else { break };
            assert_eq!(scheduler.turn(now).next, ModelNext::Wait(None), "one batch at once");
            now += batch.expected;
            *seconds.entry(model).or_default() += batch.expected.as_secs_f64();
            let measured = Measured { took: batch.expected, bytes: None };
            scheduler.get_mut(&model).unwrap().complete(now, batch.id, measured);
        }
        seconds
    }

    #[test]
    fn models_share_the_seconds_by_weight() {
        let mut scheduler = Scheduler::new(1).unwrap();
        for (model, weight) in [("a", 1.0), ("b", 3.0)] {
            scheduler.insert(model, queue(), weight).unwrap();
            submit(&mut scheduler, model, 30_000, None);
        }
        let seconds = run(&mut scheduler, 400);
        let ratio = seconds["b"] / seconds["a"];
        assert!((2.8..3.2).contains(&ratio), "{seconds:?}");
    }

    #[test]
    fn a_model_that_is_seldom_asked_is_next() {
        let mut scheduler = Scheduler::new(1).unwrap();
        for model in ["bulk", "seldom"] {
            scheduler.insert(model, queue(), 1.0).unwrap();
        }
        submit(&mut scheduler, "bulk", 30_000, None);
        assert_eq!(run(&mut scheduler, 50).len(), 1);
        submit(&mut scheduler, "seldom", 1, None);
        assert!(run(&mut scheduler, 1).contains_key("seldom"));
        assert!(scheduler.get(&"seldom").unwrap().is_idle());
        assert!(scheduler.remove(&"bulk").is_some() && scheduler.get(&"bulk").is_none());
        assert_eq!(run(&mut scheduler, 9).len(), 0);
    }

    #[test]
    fn deadlines_pass_while_another_model_runs() {
        let mut scheduler = Scheduler::new(1).unwrap();
        for model in ["a", "b"] {
            scheduler.insert(model, queue(), 1.0).unwrap();
        }
        submit(&mut scheduler, "a", 10_000, None);
        assert!(matches!(scheduler.turn(Duration::ZERO).next, ModelNext::Run("a", _)));
        let deadline = Duration::from_secs(9);
        let id = submit(&mut scheduler, "b", 1, Some(deadline));
        assert_eq!(scheduler.turn(Duration::ZERO).next, ModelNext::Wait(Some(deadline)));
        assert_eq!(scheduler.turn(deadline).expired, [("b", id)]);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert!(Scheduler::<u8>::new(0).unwrap_err().to_string().contains("slots"));
        assert!(Scheduler::new(1).unwrap().insert(1, queue(), f64::NAN).unwrap_err().to_string().contains("weight"));
    }
}
