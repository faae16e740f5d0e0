//! A queue driven by arrivals, on a machine whose speed is a formula with noise.

use super::traces::{Arrival, Random};
use embral_scheduler::{
    Batch, CostModel, Measured, Next, Priority, Queue, QueueConfig, Refused, RequestId, Shape, Tenant,
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// What batches take in truth; the queue is never told.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) cost: CostModel,
    /// The standard deviation of the logarithm of a batch's seconds.
    pub(crate) noise: f64,
}

impl Machine {
    pub(crate) fn seconds(&self, shape: &Shape) -> f64 {
        self.cost.seconds(shape)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Expired,
}

/// What became of an accepted request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) tenant: Tenant,
    pub(crate) priority: Priority,
    pub(crate) tokens: u64,
    pub(crate) arrival: f64,
    pub(crate) end: f64,
    pub(crate) how: End,
}

impl Outcome {
    pub(crate) fn latency(&self) -> f64 {
        self.end - self.arrival
    }
}

/// A batch that was computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    pub(crate) start: f64,
    pub(crate) seconds: f64,
    pub(crate) shape: Shape,
    pub(crate) budget: u64,
}

pub(crate) struct Report {
    pub(crate) queue: Queue,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) refused: Vec<(f64, Refused)>,
    pub(crate) ran: Vec<Ran>,
    pub(crate) end: f64,
}

impl Report {
    pub(crate) fn of(&self, priority: Priority) -> Vec<f64> {
        self.outcomes.iter().filter(|o| o.priority == priority && o.how == End::Done).map(Outcome::latency).collect()
    }

    /// Tokens computed in a second of the time between two moments.
    pub(crate) fn throughput(&self, from: f64, to: f64) -> f64 {
        self.ran.iter().filter(|r| (from..to).contains(&r.start)).map(|r| r.shape.tokens as f64).sum::<f64>()
            / (to - from)
    }

    pub(crate) fn busy(&self) -> f64 {
        self.ran.iter().map(|r| r.seconds).sum::<f64>() / self.end
    }
}

pub(crate) fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((quantile * sorted.len() as f64) as usize).min(sorted.len() - 1)]
}

/// What a client is told, and when.
pub(crate) enum Event<'a> {
    Done(&'a Outcome),
    Refused(f64, &'a Arrival, Refused),
}

/// Runs all arrivals through a queue, to the end.
pub(crate) fn run(config: QueueConfig, machine: Machine, arrivals: Vec<Arrival>, seed: u64) -> Report {
    run_changing(config, |_| machine, arrivals, |_| None, seed)
}

/// The same on a machine that changes with time, with clients that send again once they have an answer or are refused.
pub(crate) fn run_changing(
    config: QueueConfig,
    machine: impl Fn(f64) -> Machine,
    arrivals: Vec<Arrival>,
    react: impl FnMut(Event<'_>) -> Option<Arrival>,
    seed: u64,
) -> Report {
    run_queue(Queue::new(config).unwrap(), machine, arrivals, react, seed)
}

/// The same on a queue that was made ready.
pub(crate) fn run_queue(
    queue: Queue,
    machine: impl Fn(f64) -> Machine,
    arrivals: Vec<Arrival>,
    mut react: impl FnMut(Event<'_>) -> Option<Arrival>,
    seed: u64,
) -> Report {
    let mut random = Random(seed);
    let mut report = Report { queue, outcomes: Vec::new(), refused: Vec::new(), ran: Vec::new(), end: 0.0 };
    let mut open: HashMap<RequestId, Outcome> = HashMap::new();
    let mut sent = 0;
    let mut coming = BTreeMap::new();
    let mut send = |coming: &mut BTreeMap<_, _>, arrival: Arrival| {
        sent += 1;
        coming.insert((arrival.at, sent), arrival);
    };
    arrivals.into_iter().for_each(|arrival| send(&mut coming, arrival));
    let mut running: Vec<(Duration, Batch, Duration)> = Vec::new();
    let mut now = Duration::ZERO;
    loop {
        let mut wake = None;
        loop {
            let budget = report.queue.statistics(now).budget_tokens;
            let turn = report.queue.turn(now);
            for id in turn.expired {
                let outcome = open.remove(&id).expect("open until it expires");
                report.outcomes.push(Outcome { end: now.as_secs_f64(), how: End::Expired, ..outcome });
            }
            match turn.next {
                Next::Run(batch) => {
                    let machine = machine(now.as_secs_f64());
                    let seconds = machine.seconds(&batch.shape) * (machine.noise * random.normal()).exp();
                    let ran = Ran { start: now.as_secs_f64(), seconds, shape: batch.shape, budget };
                    report.ran.push(ran);
                    let took = Duration::from_secs_f64(seconds);
                    running.push((now + took, batch, took));
                }
                Next::Wait(at) => {
                    wake = at.or(wake);
                    break;
                }
            }
        }
        let next_end = running.iter().map(|(end, ..)| *end).min();
        let next_arrival = coming.keys().next().map(|(at, _)| *at);
        let Some(next) = [wake, next_end, next_arrival].into_iter().flatten().min() else { break };
        now = now.max(next);
        if let Some(at) = running.iter().position(|(end, ..)| *end <= now) {
            let (_, batch, took) = running.swap_remove(at);
            for id in report.queue.complete(now, batch.id, Measured { took, bytes: None }) {
                let outcome = open.remove(&id).expect("open until it is done");
                let outcome = Outcome { end: now.as_secs_f64(), ..outcome };
                report.outcomes.push(outcome);
                if let Some(arrival) = react(Event::Done(&outcome)) {
                    send(&mut coming, arrival);
                }
            }
        } else if let Some(entry) = coming.first_entry().filter(|entry| entry.key().0 <= now) {
            let arrival = entry.remove();
            let outcome = Outcome {
                tenant: arrival.request.tenant,
                priority: arrival.request.priority,
                tokens: arrival.request.lengths.iter().map(|tokens| u64::from(*tokens)).sum(),
                arrival: arrival.at.as_secs_f64(),
                end: 0.0,
                how: End::Done,
            };
            match report.queue.submit(now, arrival.request.clone()) {
                Ok(id) => {
                    open.insert(id, outcome);
                }
                Err(refused) => {
                    report.refused.push((now.as_secs_f64(), refused));
                    if let Some(arrival) = react(Event::Refused(now.as_secs_f64(), &arrival, refused)) {
                        send(&mut coming, arrival);
                    }
                }
            }
        }
    }
    assert!(open.is_empty() && report.queue.is_idle(), "nothing is left behind");
    report.end = now.as_secs_f64();
    report
}
