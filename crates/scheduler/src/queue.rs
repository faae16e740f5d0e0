//! The queue of one model: requests in, batches out, each request ended once.

use crate::{
    AdaptivePerformanceTuner, BatchId, BatchSizeOptimizer, ClassStatistics, Limits, Observation, Priority, QueueConfig,
    Reason, Refused, Request, RequestId, SequenceRef, Shape, Statistics, Tenant, Totals,
    forming::{Formed, form},
    rate::{ArrivalRate, ServiceRate},
    waiting::{Open, Waiting},
};
use embral_types::{Error, ErrorKind, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Sequences to compute together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The name by which its end is told.
    pub id: BatchId,
    /// What is in it, in the order due.
    pub sequences: Vec<SequenceRef>,
    /// Its lengths, summed up.
    pub shape: Shape,
    /// Why it goes now.
    pub reason: Reason,
    /// How long it is expected to take.
    pub expected: Duration,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// To compute this batch, and to ask again.
    Run(Batch),
    /// To wait for an event: a request, the end of a batch; or for this time.
    Wait(Option<Duration>),
}

/// What a look at the queue found.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Requests whose deadline passed, or would before the end of a batch that goes now: they have ended.
    pub expired: Vec<RequestId>,
    /// What to do.
    pub next: Next,
}

/// What a batch took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// How long it was computed.
    pub took: Duration,
    /// The bytes that it took, where that is known.
    pub bytes: Option<u64>,
}

/// A batch that runs.
#[derive(Debug)]
struct Running {
    sequences: Vec<SequenceRef>,
    shape: Shape,
    charge: f64,
    budget: f64,
    filled: bool,
}

/// How much longer than expected a batch is allowed to take, where a deadline is near.
const LATE: f64 = 1.2;

/// The queue of one model.
///
/// It has no clock and no threads. Every call says what time it is, as the time since a moment of the caller's choice; times that go
/// backwards are harmless. Who drives it calls [`Queue::submit`] for what arrives, [`Queue::turn`] after every event and at the time that
/// the last turn named, and [`Queue::complete`], [`Queue::fail`] or [`Queue::give_back`] once for every batch.
///
/// A request that was accepted ends once: it is in what [`Queue::complete`] returns (all of its sequences are computed), in what
/// [`Queue::fail`] returns, in [`Turn::expired`], or [`Queue::cancel`] or [`Queue::reject`] returned true for it.
#[derive(Debug)]
pub struct Queue {
    pub(crate) config: QueueConfig,
    pub(crate) waiting: Waiting,
    pub(crate) optimizer: BatchSizeOptimizer,
    pub(crate) tuner: AdaptivePerformanceTuner,
    pub(crate) arrivals: ArrivalRate,
    pub(crate) service: ServiceRate,
    pub(crate) deadlines: BTreeSet<(Duration, RequestId)>,
    pub(crate) pressure: f64,
    pub(crate) admitting: bool,
    pub(crate) closed: bool,
    running: BTreeMap<BatchId, Running>,
    /// Whether the last batch was made half as large for what is urgent.
    halved: bool,
    requests: u64,
    totals: Totals,
}

impl Queue {
    /// An empty queue.
    ///
    /// # Errors
    /// As [`QueueConfig::check`].
    pub fn new(config: QueueConfig) -> Result<Self> {
        config.check()?;
        Ok(Self {
            waiting: Waiting::new(config.cost, config.weights),
            optimizer: BatchSizeOptimizer::new(config.cost)?,
            tuner: AdaptivePerformanceTuner::new(config.tuner)?,
            arrivals: ArrivalRate::default(),
            service: ServiceRate::default(),
            deadlines: BTreeSet::new(),
            pressure: 0.0,
            admitting: true,
            closed: false,
            running: BTreeMap::new(),
            halved: false,
            requests: 0,
            totals: Totals::default(),
            config,
        })
    }

    /// Accepts a request, or says why not and when to come again. O(log requests + its sequences).
    ///
    /// # Errors
    /// Where there is no room for it ([`crate::Refusal`] lists the causes).
    pub fn submit(&mut self, now: Duration, request: Request) -> Result<RequestId, Refused> {
        // Every refusal counts as offered load too, but not as arriving work: it never comes to a batch.
        if let Err(refused) = self.admit(now, &request) {
            self.totals.refused[refused.cause.index()] += 1;
            return Err(refused);
        }
        self.requests += 1;
        let id = RequestId(self.requests);
        let charge = request.lengths.iter().map(|tokens| self.config.cost.charge(*tokens)).sum();
        self.arrivals.add(now, charge);
        if let Some(deadline) = request.deadline {
            self.deadlines.insert((deadline, id));
        }
        self.waiting.insert(id, Open::new(request, now));
        self.totals.accepted += 1;
        Ok(id)
    }

    /// Takes a request back; false where it has ended already. Its room is free at once; what of it runs is computed for nobody.
    /// O(log requests).
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let open = self.end(id);
        self.totals.cancelled += u64::from(open);
        open
    }

    /// Ends a request that failed by itself, such as one whose text the model does not take; the others of its batch go on. False where
    /// it has ended already. O(log requests).
    pub fn reject(&mut self, id: RequestId) -> bool {
        let open = self.end(id);
        self.totals.failed += u64::from(open);
        open
    }

    /// Ends what is past its deadline, or would be at the end of the next batch, and says what to do next.
    pub fn turn(&mut self, now: Duration) -> Turn {
        let mut expired = self.expire(now);
        let next = loop {
            match self.due(now) {
                Ok(reason) => {
                    let late = self.end_late(now);
                    if late.is_empty() {
                        break Next::Run(self.form(reason));
                    }
                    expired.extend(late);
                }
                Err(at) => break Next::Wait(at),
            }
        };
        Turn { expired, next }
    }

    /// Whether a batch goes now; if not, when to look again.
    pub(crate) fn is_due(&self, now: Duration) -> Result<(), Option<Duration>> {
        self.due(now).map(|_| ())
    }

    /// Whether a sequence waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.requests() > 0
    }

    /// The first deadline of a request that is open.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many batches run.
    pub(crate) fn batches_running(&self) -> usize {
        self.running.len()
    }

    /// Ends what is past its deadline. O(log requests) for each.
    pub fn expire(&mut self, now: Duration) -> Vec<RequestId> {
        let mut expired = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if self.end(id) {
                expired.push(id);
            }
        }
        self.totals.expired += expired.len() as u64;
        expired
    }

    /// A batch was computed. Returns the requests that are answered by it: all of their sequences are computed. A batch that has ended
    /// already answers none.
    pub fn complete(&mut self, now: Duration, batch: BatchId, measured: Measured) -> Vec<RequestId> {
        let Some(running) = self.running.remove(&batch) else { return Vec::new() };
        self.learn(&running, measured);
        let mut done = Vec::new();
        for sequence in &running.sequences {
            if let Some(open) = self.waiting.get_mut(sequence.request) {
                open.running -= 1;
                if open.is_done() {
                    self.tuner.observe_latency(now.saturating_sub(open.arrival).as_secs_f64());
                    done.push(sequence.request);
                    self.end(sequence.request);
                }
            }
        }
        self.totals.computed += 1;
        self.totals.done += done.len() as u64;
        done
    }

    /// A batch failed. Returns the requests that end with it: all that had a sequence in it, with whatever else of them waits or runs.
    pub fn fail(&mut self, batch: BatchId) -> Vec<RequestId> {
        let Some(running) = self.running.remove(&batch) else { return Vec::new() };
        let mut failed: Vec<RequestId> = running.sequences.iter().map(|sequence| sequence.request).collect();
        failed.retain(|id| self.end(*id));
        self.totals.failed += failed.len() as u64;
        failed
    }

    /// A batch was not computed and may be, by somebody else: its sequences wait again, at the place they had.
    pub fn give_back(&mut self, batch: BatchId) {
        if let Some(running) = self.running.remove(&batch) {
            running.sequences.iter().for_each(|sequence| self.waiting.put_back(*sequence));
        }
    }

    /// Says what fraction of memory is in use ([`crate::MemoryReport::pressure`]).
    pub fn set_memory_pressure(&mut self, fraction: f64) {
        self.pressure = fraction;
        self.admitting = self.config.memory.admits(fraction, self.admitting);
    }

    /// Sets the share of a tenant, from its next request on. A tenant never named has 1.
    ///
    /// # Errors
    /// Where it is no positive number.
    pub fn set_weight(&mut self, tenant: Tenant, weight: f64) -> Result<()> {
        if !(weight.is_finite() && weight > 0.0) {
            let message = format!("a tenant's weight must be a finite number above 0; found {weight}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        self.waiting.set_weight(tenant, weight);
        Ok(())
    }

    /// From now on accepts nothing, and lets what waits go at once.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it is being shut down.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a request has not ended.
    pub fn is_open(&self, id: RequestId) -> bool {
        self.waiting.get(id).is_some()
    }

    /// Whether nothing waits and nothing runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.open_requests() == 0 && self.running.is_empty()
    }

    /// What the queue did and holds.
    pub fn statistics(&self, now: Duration) -> Statistics {
        let total = self.waiting.total();
        let running = |of: fn(&Running) -> u64| self.running.values().map(of).sum();
        Statistics {
            open_requests: self.waiting.open_requests(),
            waiting_requests: self.waiting.requests(),
            waiting_sequences: total.sequences,
            waiting_tokens: total.tokens,
            waiting_by_priority: Priority::ALL.map(|priority| {
                let class = self.waiting.class(priority);
                ClassStatistics { sequences: class.sequences, tokens: class.tokens }
            }),
            waiting_tenants: self.waiting.tenants(),
            oldest: self.oldest().map(|arrival| now.saturating_sub(arrival)),
            running_batches: self.running.len(),
            running_sequences: running(|r| r.shape.sequences),
            running_tokens: running(|r| r.shape.tokens),
            budget_tokens: self.limits().tokens,
            budget_moves: self.tuner.moves(),
            memory_pressure: self.pressure,
            admitting: self.admitting && !self.closed,
            arriving: self.arrivals.per_second(now),
            throughput: self.service.per_second(),
            latency_p50: self.tuner.latency(0.5),
            latency_p95: self.tuner.latency(0.95),
            latency_p99: self.tuner.latency(0.99),
            totals: self.totals,
        }
    }

    /// What was measured: tokens of the budget, tokens a second by charge, batches that count.
    pub fn throughput_curve(&self) -> Vec<(f64, f64, f64)> {
        self.tuner.curve()
    }

    /// The optimizer, with what it has learnt.
    pub fn optimizer(&self) -> &BatchSizeOptimizer {
        &self.optimizer
    }

    /// When the oldest request that waits arrived.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        Some(self.waiting.get(self.waiting.oldest()?)?.arrival)
    }

    /// The charge of all that waits.
    pub(crate) fn charge_waiting(&self) -> f64 {
        let (total, cost) = (self.waiting.total(), &self.config.cost);
        total.tokens as f64 + total.pairs as f64 * cost.flops_per_pair / cost.flops_per_token
    }

    pub(crate) fn slots_free(&self) -> bool {
        self.running.len() < self.config.slots
    }

    /// What a batch must stay within now.
    pub(crate) fn limits(&self) -> Limits {
        let factor = self.config.memory.factor(self.pressure);
        Limits {
            bytes: self.config.batch_bytes * factor,
            seconds: self.tuner.config().batch_seconds(),
            // Rounding down keeps the bound; a budget below one token is one.
            tokens: ((self.tuner.budget() as f64 * factor) as u64).max(1),
            sequences: self.config.batch_sequences,
        }
    }

    /// Ends what waits and would be late even in a batch that goes now. Without it a queue under more than it can do would compute
    /// nothing but answers that come too late, as those due first are those that waited the longest.
    fn end_late(&mut self, now: Duration) -> Vec<RequestId> {
        let (total, limits) = (self.waiting.total(), self.limits());
        let part = (limits.tokens as f64 / total.tokens as f64).min(1.0);
        let seconds = self.optimizer.seconds_of_charge(part * self.charge_waiting()).min(limits.seconds);
        let end = now.saturating_add(Duration::try_from_secs_f64(LATE * seconds).unwrap_or(Duration::MAX));
        let late = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= end).map(|(_, id)| *id);
        let mut late: Vec<RequestId> = late.filter(|id| self.waiting.get(*id).is_some_and(Open::waits)).collect();
        late.retain(|id| self.end(*id));
        self.totals.expired += late.len() as u64;
        late
    }

    fn form(&mut self, reason: Reason) -> Batch {
        let mut limits = self.limits();
        let urgent = self.waiting.class(Priority::High).tokens;
        // What is urgent has waited for the batch before, and waits for the company in its own: it gets half of that, at little cost, as the
        // budget lies where throughput is nearly flat. Not in two batches in a row: only whole ones tell the tuner of its budget, and
        // a whole one next to a half is one and a half either way.
        self.halved = urgent > 0 && !self.halved;
        if self.halved {
            limits.tokens = limits.tokens.min(urgent.max(limits.tokens / 2)).max(1);
        }
        let grouping = self.config.cost.padded.then_some((self.config.grouping, limits.tokens));
        let optimizer = &self.optimizer;
        let Formed { sequences, shape, in_order } =
            form(&mut self.waiting, grouping, |shape| optimizer.fits(shape, &limits));
        self.totals.batch(reason, &shape);
        self.count_padding(&shape, &in_order);
        let id = BatchId(self.totals.batches);
        let expected = Duration::try_from_secs_f64(self.optimizer.seconds(&shape)).unwrap_or(Duration::MAX);
        let charge = sequences.iter().map(|sequence| self.config.cost.charge(sequence.tokens)).sum();
        let filled = self.waiting.total().sequences > 0;
        let running = Running { sequences: sequences.clone(), shape, charge, budget: limits.tokens as f64, filled };
        self.running.insert(id, running);
        Batch { id, sequences, shape, reason, expected }
    }

    fn count_padding(&mut self, shape: &Shape, in_order: &Shape) {
        let padding = |shape: &Shape| shape.padded_tokens() - shape.tokens;
        if self.config.cost.padded {
            // The padding of the order due, for as many tokens.
            let without = padding(in_order) as f64 * shape.tokens as f64 / in_order.tokens.max(1) as f64;
            self.totals.padding += padding(shape);
            self.totals.padding_saved += (without as u64).saturating_sub(padding(shape));
        } else {
            self.totals.padding_saved += padding(shape);
        }
    }

    fn learn(&mut self, running: &Running, measured: Measured) {
        let seconds = measured.took.as_secs_f64();
        self.totals.busy_seconds += seconds;
        self.service.add(running.charge, seconds);
        self.optimizer.observe(&running.shape, seconds, measured.bytes.map(|bytes| bytes as f64));
        let Shape { sequences, tokens, longest, .. } = running.shape;
        let each =
            if self.config.cost.padded { longest } else { u32::try_from(tokens / sequences).unwrap_or(u32::MAX) };
        let largest = self.optimizer.largest(each, &Limits { tokens: u64::MAX, ..self.limits() });
        self.tuner.observe(Observation {
            budget: running.budget,
            charge: running.charge,
            seconds,
            filled: running.filled,
            cap: largest.max(1) as f64 * f64::from(each),
            sequences: sequences as f64,
        });
    }

    /// Ends a request, whatever of it waits or runs; false where it has ended already.
    fn end(&mut self, id: RequestId) -> bool {
        let Some(open) = self.waiting.remove(id) else { return false };
        if let Some(deadline) = open.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        true
    }
}
