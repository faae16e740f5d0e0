//! Any sequence of events, against a model that is obvious: every request that was accepted ends once, and sums are those of what waits.

use embral_scheduler::{
    Batch, Capacity, CostModel, Measured, Next, Preset, Priority, Queue, QueueConfig, Refusal, Request, RequestId,
    Tenant,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

#[derive(Clone, Debug)]
enum Event {
    Submit { tenant: u64, priority: usize, lengths: Vec<u32>, deadline: Option<u64> },
    Cancel(usize),
    Reject(usize),
    Turn,
    Complete(usize),
    Fail(usize),
    GiveBack(usize),
    Later(u64),
    Pressure(f64),
}

fn event() -> impl Strategy<Value = Event> {
    let submit = (0_u64..4, 0_usize..3, proptest::collection::vec(0_u32..300, 0..8), proptest::option::of(0_u64..2000));
    prop_oneof![
        6 => submit.prop_map(|(tenant, priority, lengths, deadline)| Event::Submit { tenant, priority, lengths, deadline }),
        2 => any::<prop::sample::Index>().prop_map(|i| Event::Cancel(i.index(1000))),
        1 => any::<prop::sample::Index>().prop_map(|i| Event::Reject(i.index(1000))),
        5 => Just(Event::Turn),
        3 => (0_usize..4).prop_map(Event::Complete),
        1 => (0_usize..4).prop_map(Event::Fail),
        1 => (0_usize..4).prop_map(Event::GiveBack),
        3 => (0_u64..500).prop_map(Event::Later),
        1 => (0.0_f64..1.1).prop_map(Event::Pressure),
    ]
}

/// What is true of an accepted request.
struct Known {
    lengths: Vec<u32>,
    deadline: Option<Duration>,
    /// How many batches that run hold each sequence, and whether it is computed.
    running: Vec<u32>,
    computed: Vec<bool>,
}

#[derive(Default)]
struct Model {
    open: BTreeMap<RequestId, Known>,
    ended: BTreeSet<RequestId>,
    batches: Vec<Batch>,
    accepted: u64,
}

impl Model {
    fn end(&mut self, ended: &[RequestId]) {
        for id in ended {
            assert!(self.open.remove(id).is_some(), "{id:?} was not open");
            assert!(self.ended.insert(*id), "{id:?} ended twice");
        }
    }

    fn check(&self, queue: &Queue, now: Duration) {
        let seen = queue.statistics(now);
        let waiting = self.open.values().flat_map(|known| {
            known
                .lengths
                .iter()
                .zip(&known.running)
                .zip(&known.computed)
                .filter(|((_, running), computed)| **running == 0 && !**computed)
        });
        let (mut sequences, mut tokens) = (0, 0);
        waiting.for_each(|((length, _), _)| {
            sequences += 1;
            tokens += u64::from((*length).max(1));
        });
        assert_eq!((seen.waiting_sequences, seen.waiting_tokens), (sequences, tokens));
        assert_eq!(seen.open_requests, self.open.len());
        assert_eq!(seen.running_batches, self.batches.len());
        let totals = seen.totals;
        assert_eq!(totals.accepted, self.accepted);
        assert_eq!(totals.done + totals.failed + totals.expired + totals.cancelled, self.ended.len() as u64);
        assert!(self.open.keys().all(|id| queue.is_open(*id)) && !self.ended.iter().any(|id| queue.is_open(*id)));
    }

    /// Takes the batches that a turn gives.
    fn turn(&mut self, queue: &mut Queue, now: Duration) -> bool {
        let turn = queue.turn(now);
        for id in &turn.expired {
            // At the deadline, or before a batch that would end after it: none here takes a second.
            assert!(self.open[id].deadline.is_some_and(|deadline| deadline <= now + Duration::from_secs(1)));
        }
        self.end(&turn.expired);
        assert!(!self.open.values().any(|known| known.deadline.is_some_and(|deadline| deadline <= now)));
        match turn.next {
            Next::Run(batch) => {
                assert!(!batch.sequences.is_empty());
                for sequence in &batch.sequences {
                    let known = self.open.get_mut(&sequence.request).expect("what is in a batch is open");
                    assert_eq!(known.lengths[sequence.index].max(1), sequence.tokens);
                    assert!(!known.computed[sequence.index], "computed twice");
                    known.running[sequence.index] += 1;
                    assert_eq!(known.running[sequence.index], 1, "in two batches");
                }
                self.batches.push(batch);
                true
            }
            Next::Wait(at) => {
                assert!(at.is_none_or(|at| at > now), "told to look again at a time that has passed");
                false
            }
        }
    }

    fn complete(&mut self, queue: &mut Queue, now: Duration, batch: &Batch) {
        for sequence in &batch.sequences {
            if let Some(known) = self.open.get_mut(&sequence.request) {
                known.running[sequence.index] -= 1;
                known.computed[sequence.index] = true;
            }
        }
        let whole: BTreeSet<RequestId> =
            self.open.iter().filter(|(_, known)| known.computed.iter().all(|c| *c)).map(|(id, _)| *id).collect();
        let done =
            queue.complete(now, batch.id, Measured { took: batch.expected, bytes: Some(batch.shape.tokens * 9000) });
        assert_eq!(done.iter().copied().collect::<BTreeSet<_>>(), whole);
        self.end(&done);
        assert!(queue.complete(now, batch.id, Measured::default()).is_empty(), "a batch ends once");
    }

    fn fail(&mut self, queue: &mut Queue, batch: &Batch) {
        let hit: BTreeSet<RequestId> =
            batch.sequences.iter().map(|s| s.request).filter(|id| self.open.contains_key(id)).collect();
        let failed = queue.fail(batch.id);
        assert_eq!(failed.iter().copied().collect::<BTreeSet<_>>(), hit);
        self.end(&failed);
    }
}

fn config(padded: bool, slots: usize, preset: Preset) -> QueueConfig {
    let cost = CostModel { padded, ..CostModel::default() };
    let base = QueueConfig::preset(preset, cost);
    let mut tuner = base.tuner;
    (tuner.first_tokens, tuner.most_tokens) = (512, 1024);
    let capacity = Capacity { requests: 30, tokens: 6000, ..Capacity::default() };
    QueueConfig { slots, tuner, capacity, ..base }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_request_ends_once(
        events in proptest::collection::vec(event(), 1..200), padded: bool, slots in 1_usize..4, quick: bool,
    ) {
        let config = config(padded, slots, if quick { Preset::Latency } else { Preset::Throughput });
        let capacity = config.capacity;
        let mut queue = Queue::new(config).unwrap();
        let (mut model, mut now, mut ids) = (Model::default(), Duration::ZERO, Vec::new());
        for event in events {
            match event {
                Event::Submit { tenant, priority, lengths, deadline } => {
                    let deadline = deadline.map(|ms| now + Duration::from_millis(ms));
                    let request = Request { tenant: Tenant(tenant), priority: Priority::ALL[priority], lengths: lengths.clone(), deadline };
                    match queue.submit(now, request) {
                        Ok(id) => {
                            prop_assert!(!lengths.is_empty() && deadline.is_none_or(|d| d > now));
                            let n = lengths.len();
                            model.open.insert(id, Known { lengths, deadline, running: vec![0; n], computed: vec![false; n] });
                            model.accepted += 1;
                            ids.push(id);
                        }
                        Err(refused) => {
                            let waits = matches!(refused.cause, Refusal::Full | Refusal::Share | Refusal::Memory);
                            prop_assert_eq!(refused.retry_after.is_some(), waits);
                        }
                    }
                }
                Event::Cancel(at) => if let Some(id) = ids.get(at % ids.len().max(1)) {
                    let open = model.open.contains_key(id);
                    prop_assert_eq!(queue.cancel(*id), open);
                    if open { model.end(&[*id]); }
                },
                Event::Reject(at) => if let Some(id) = ids.get(at % ids.len().max(1)) {
                    let open = model.open.contains_key(id);
                    prop_assert_eq!(queue.reject(*id), open);
                    if open { model.end(&[*id]); }
                },
                Event::Turn => { model.turn(&mut queue, now); }
                Event::Complete(at) | Event::Fail(at) | Event::GiveBack(at) if model.batches.is_empty() => { let _ = at; }
                Event::Complete(at) => {
                    let batch = model.batches.swap_remove(at % model.batches.len());
                    now += batch.expected;
                    model.complete(&mut queue, now, &batch);
                }
                Event::Fail(at) => {
                    let batch = model.batches.swap_remove(at % model.batches.len());
                    model.fail(&mut queue, &batch);
                }
                Event::GiveBack(at) => {
                    let batch = model.batches.swap_remove(at % model.batches.len());
                    for sequence in &batch.sequences {
                        if let Some(known) = model.open.get_mut(&sequence.request) { known.running[sequence.index] -= 1; }
                    }
                    queue.give_back(batch.id);
                }
                Event::Later(ms) => now += Duration::from_millis(ms),
                Event::Pressure(fraction) => queue.set_memory_pressure(fraction),
            }
            model.check(&queue, now);
            let seen = queue.statistics(now);
            // What is given back may stand above the bound, by what ran.
            prop_assert!(seen.waiting_tokens <= capacity.tokens + 4 * 1024 + 300);
            prop_assert!(model.batches.len() <= slots);
        }
        // Shut down: everything that is open is answered, and in as many batches as there are sequences at most.
        queue.close();
        prop_assert_eq!(queue.submit(now, Request { lengths: vec![1], ..Request::default() }).unwrap_err().cause, Refusal::Closed);
        for _ in 0..10_000 {
            while model.turn(&mut queue, now) {}
            let Some(batch) = model.batches.pop() else { break };
            now += batch.expected;
            model.complete(&mut queue, now, &batch);
        }
        model.check(&queue, now);
        prop_assert!(queue.is_idle() && model.open.is_empty());
        prop_assert_eq!(model.ended.len(), ids.len());
    }
}

#[test]
fn cancelled_and_expired_requests_free_their_room_at_once() {
    let capacity = Capacity { tokens: 1000, tenant: None, by_priority: [1.0; 3], ..Capacity::default() };
    let mut queue = Queue::new(QueueConfig { capacity, ..QueueConfig::default() }).unwrap();
    let request = |deadline| Request { lengths: vec![100; 10], deadline, ..Request::default() };
    let id = queue.submit(Duration::ZERO, request(None)).unwrap();
    assert_eq!(queue.submit(Duration::ZERO, request(None)).unwrap_err().cause, Refusal::Full);
    assert!(queue.cancel(id) && !queue.cancel(id));
    let deadline = Duration::from_millis(50);
    let id = queue.submit(Duration::ZERO, request(Some(deadline))).unwrap();
    assert_eq!(queue.submit(Duration::ZERO, request(None)).unwrap_err().cause, Refusal::Full);
    assert_eq!(queue.expire(deadline), [id]);
    queue.submit(deadline, request(None)).unwrap();
    let totals = queue.statistics(deadline).totals;
    assert_eq!((totals.cancelled, totals.expired, totals.refused[Refusal::Full.index()]), (1, 1, 2));
}

#[test]
fn a_request_of_a_million_sequences_is_taken_back_as_quickly_as_one() {
    let capacity = Capacity::unbounded();
    let mut queue = Queue::new(QueueConfig { capacity, ..QueueConfig::default() }).unwrap();
    for _ in 0..20 {
        let id = queue.submit(Duration::ZERO, Request { lengths: vec![1; 1_000_000], ..Request::default() }).unwrap();
        assert_eq!(queue.statistics(Duration::ZERO).waiting_sequences, 1_000_000);
        assert!(queue.cancel(id));
        assert!(queue.is_idle());
    }
}

#[test]
fn memory_shrinks_batches_and_then_stops_admission() {
    let mut queue = Queue::new(QueueConfig::default()).unwrap();
    let submit =
        |queue: &mut Queue| queue.submit(Duration::ZERO, Request { lengths: vec![10; 2000], ..Request::default() });
    let tokens = |queue: &mut Queue| match queue.turn(Duration::ZERO).next {
        Next::Run(batch) => {
            queue.give_back(batch.id);
            batch.shape.tokens
        }
        Next::Wait(_) => 0,
    };
    submit(&mut queue).unwrap();
    assert_eq!(tokens(&mut queue), 1020);
    queue.set_memory_pressure(0.85);
    submit(&mut queue).unwrap();
    assert_eq!(tokens(&mut queue), 640);
    queue.set_memory_pressure(0.95);
    let refused = submit(&mut queue).unwrap_err();
    assert_eq!(refused.cause, Refusal::Memory);
    assert!(refused.retry_after.is_some());
    assert_eq!(tokens(&mut queue), 250);
    queue.set_memory_pressure(0.87);
    assert_eq!(submit(&mut queue).unwrap_err().cause, Refusal::Memory);
    queue.set_memory_pressure(0.5);
    submit(&mut queue).unwrap();
    assert_eq!(tokens(&mut queue), 1020);
}

#[test]
fn a_full_tenant_leaves_room_for_the_next() {
    let capacity = Capacity { tokens: 9000, by_priority: [1.0, 1.0, 0.5], ..Capacity::default() };
    let mut queue = Queue::new(QueueConfig { capacity, ..QueueConfig::default() }).unwrap();
    let mut fill = |tenant, priority| {
        let request = || Request { tenant: Tenant(tenant), priority, lengths: vec![10; 10], deadline: None };
        let mut held = 0;
        loop {
            match queue.submit(Duration::ZERO, request()) {
                Ok(_) => held += 100,
                Err(refused) => break (held, refused.cause),
            }
        }
    };
    assert_eq!(fill(1, Priority::Low), (4500, Refusal::Full));
    // α = 8: h ≤ 8 (9000 − q).
    let (held, cause) = fill(2, Priority::Normal);
    assert!((3900..=4100).contains(&held) && cause == Refusal::Share, "{held} {cause:?}");
    let (held, _) = fill(3, Priority::High);
    assert!(held >= 300, "{held}");
}
