//! The sequences that wait, in the order in which they are due: classes by weight, in a class tenants by weight, of a tenant's
//! requests the oldest first.
//!
//! A request leaves in O(log requests), however many sequences it has: what is ordered is requests, and a sequence is a place in one.

use crate::{CostModel, Priority, RequestId, SequenceRef, Tenant, fair::FairOrder, request::Request};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

/// An accepted request, until it ends.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) tenant: Tenant,
    pub(crate) priority: Priority,
    pub(crate) arrival: Duration,
    pub(crate) deadline: Option<Duration>,
    lengths: Box<[u32]>,
    taken: Box<[bool]>,
    /// No sequence before this one waits.
    next: usize,
    /// How many batches each sequence was passed over by; empty while none was.
    passed: Box<[u8]>,
    /// What of it waits.
    left: Sum,
    /// How many of its sequences are in batches that run.
    pub(crate) running: usize,
}

/// Sequences summed up, exactly, so that sums can be taken apart again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) sequences: u64,
    pub(crate) tokens: u64,
    pub(crate) pairs: u128,
}

impl Sum {
    fn of(tokens: u32) -> Self {
        Self { sequences: 1, tokens: u64::from(tokens), pairs: u128::from(tokens) * u128::from(tokens) }
    }

    fn add(&mut self, other: Self) {
        self.sequences += other.sequences;
        self.tokens += other.tokens;
        self.pairs += other.pairs;
    }

    fn take(&mut self, other: Self) {
        self.sequences -= other.sequences;
        self.tokens -= other.tokens;
        self.pairs -= other.pairs;
    }
}

impl Open {
    pub(crate) fn new(request: Request, arrival: Duration) -> Self {
        let Request { tenant, priority, mut lengths, deadline } = request;
        // A sequence counts as one token at least, so that room ends for those of none too.
        lengths.iter_mut().for_each(|tokens| *tokens = (*tokens).max(1));
        let mut left = Sum::default();
        lengths.iter().for_each(|tokens| left.add(Sum::of(*tokens)));
        let (lengths, taken) = (lengths.into_boxed_slice(), vec![false; left.sequences as usize].into_boxed_slice());
        Self { tenant, priority, arrival, deadline, lengths, taken, next: 0, passed: Box::default(), left, running: 0 }
    }

    /// Whether any of its sequences waits.
    pub(crate) fn waits(&self) -> bool {
        self.left.sequences > 0
    }

    /// Whether nothing of it waits or runs.
    pub(crate) fn is_done(&self) -> bool {
        self.left.sequences == 0 && self.running == 0
    }

    /// The first sequence that waits, from `from` on.
    fn waiting_from(&self, from: usize) -> Option<usize> {
        (from..self.taken.len()).find(|index| !self.taken[*index])
    }
}

/// A sequence that waits, and how many batches it was passed over by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) sequence: SequenceRef,
    pub(crate) passed: u8,
}

type FlowKey = (Priority, Tenant);

/// All open requests of a queue, and the order of those that wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    cost: CostModel,
    weights: [f64; 3],
    tenant_weights: BTreeMap<Tenant, f64>,
    open: HashMap<RequestId, Open>,
    classes: FairOrder<Priority>,
    tenants: [FairOrder<Tenant>; 3],
    /// The requests that wait, by flow, and all of them by age.
    flows: BTreeMap<FlowKey, BTreeSet<RequestId>>,
    ages: BTreeSet<RequestId>,
    total: Sum,
    by_class: [Sum; 3],
    by_tenant: BTreeMap<Tenant, Sum>,
}

impl Waiting {
    pub(crate) fn new(cost: CostModel, weights: [f64; 3]) -> Self {
        Self {
            cost,
            weights,
            tenant_weights: BTreeMap::new(),
            open: HashMap::new(),
            classes: FairOrder::default(),
            tenants: Default::default(),
            flows: BTreeMap::new(),
            ages: BTreeSet::new(),
            total: Sum::default(),
            by_class: Default::default(),
            by_tenant: BTreeMap::new(),
        }
    }

    /// The share of a tenant, from its next request on; 1 for those never named.
    pub(crate) fn set_weight(&mut self, tenant: Tenant, weight: f64) {
        self.tenant_weights.insert(tenant, weight);
    }

    pub(crate) fn insert(&mut self, id: RequestId, open: Open) {
        let (key, left) = ((open.priority, open.tenant), open.left);
        self.open.insert(id, open);
        self.count(key, left);
        self.queue(key, id);
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&Open> {
        self.open.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Open> {
        self.open.get_mut(&id)
    }

    /// Ends a request; what of it waits, waits no more.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        let key = (open.priority, open.tenant);
        if open.left.sequences > 0 {
            self.uncount(key, open.left);
            self.unqueue(key, id);
        }
        Some(open)
    }

    /// The sequence that is due.
    pub(crate) fn first(&self) -> Option<SequenceRef> {
        let class = self.classes.first()?;
        let tenant = self.tenants[class.index()].first()?;
        let request = *self.flows.get(&(class, tenant))?.first()?;
        let open = self.open.get(&request)?;
        let index = open.waiting_from(open.next)?;
        Some(SequenceRef { request, index, tokens: open.lengths[index] })
    }

    /// Takes a sequence that waits into a batch.
    pub(crate) fn take(&mut self, sequence: SequenceRef) {
        let charge = self.cost.charge(sequence.tokens);
        let Some(open) = self.open.get_mut(&sequence.request) else { return };
        let key = (open.priority, open.tenant);
        open.taken[sequence.index] = true;
        open.running += 1;
        open.next = open.waiting_from(open.next).unwrap_or(open.taken.len());
        open.left.take(Sum::of(sequence.tokens));
        let empty = open.left.sequences == 0;
        self.uncount(key, Sum::of(sequence.tokens));
        self.classes.charge(key.0, charge);
        self.tenants[key.0.index()].charge(key.1, charge);
        if empty {
            self.unqueue(key, sequence.request);
        }
    }

    /// Puts a sequence of a batch that was not computed back to its place, where its request is still open.
    pub(crate) fn put_back(&mut self, sequence: SequenceRef) {
        let charge = self.cost.charge(sequence.tokens);
        let Some(open) = self.open.get_mut(&sequence.request) else { return };
        let key = (open.priority, open.tenant);
        open.taken[sequence.index] = false;
        open.running -= 1;
        open.next = open.next.min(sequence.index);
        open.left.add(Sum::of(sequence.tokens));
        self.count(key, Sum::of(sequence.tokens));
        self.queue(key, sequence.request);
        self.classes.refund(key.0, charge);
        self.tenants[key.0.index()].refund(key.1, charge);
    }

    /// Notes that a batch passed a sequence over for others behind it.
    pub(crate) fn pass(&mut self, sequence: SequenceRef) {
        if let Some(open) = self.open.get_mut(&sequence.request) {
            if open.passed.is_empty() {
                open.passed = vec![0; open.lengths.len()].into_boxed_slice();
            }
            open.passed[sequence.index] = open.passed[sequence.index].saturating_add(1);
        }
    }

    /// The sequences that are due next, in their order, until `enough` tokens are seen; nothing is taken.
    pub(crate) fn preview(&self, enough: u64) -> Vec<Candidate> {
        let (mut classes, mut tenants) = (self.classes.clone(), self.tenants.clone());
        let mut heads: HashMap<FlowKey, (RequestId, usize)> = HashMap::new();
        let (mut seen, mut tokens) = (Vec::new(), 0_u64);
        while tokens < enough
            && let Some(class) = classes.first()
            && let Some(tenant) = tenants[class.index()].first()
        {
            let key = (class, tenant);
            let Some((request, index)) = heads.get(&key).copied().or_else(|| self.head(key)) else { break };
            let Some(open) = self.open.get(&request) else { break };
            let sequence = SequenceRef { request, index, tokens: open.lengths[index] };
            tokens += u64::from(sequence.tokens);
            seen.push(Candidate { sequence, passed: open.passed.get(index).copied().unwrap_or(0) });
            let charge = self.cost.charge(sequence.tokens);
            classes.charge(class, charge);
            tenants[class.index()].charge(tenant, charge);
            match self.after(key, request, index) {
                Some(head) => {
                    heads.insert(key, head);
                }
                None => {
                    tenants[class.index()].leave(tenant);
                    if tenants[class.index()].len() == 0 {
                        classes.leave(class);
                    }
                }
            }
        }
        seen
    }

    /// The oldest request that waits.
    pub(crate) fn oldest(&self) -> Option<RequestId> {
        self.ages.first().copied()
    }

    /// How many requests wait, if only for one of their sequences.
    pub(crate) fn requests(&self) -> usize {
        self.ages.len()
    }

    /// How many requests are open: they wait or run.
    pub(crate) fn open_requests(&self) -> usize {
        self.open.len()
    }

    /// How many tenants wait.
    pub(crate) fn tenants(&self) -> usize {
        self.by_tenant.len()
    }

    pub(crate) fn total(&self) -> Sum {
        self.total
    }

    pub(crate) fn class(&self, priority: Priority) -> Sum {
        self.by_class[priority.index()]
    }

    /// What waits of one tenant.
    pub(crate) fn held_by(&self, tenant: Tenant) -> Sum {
        self.by_tenant.get(&tenant).copied().unwrap_or_default()
    }

    fn head(&self, key: FlowKey) -> Option<(RequestId, usize)> {
        let request = *self.flows.get(&key)?.first()?;
        let open = self.open.get(&request)?;
        Some((request, open.waiting_from(open.next)?))
    }

    fn after(&self, key: FlowKey, request: RequestId, index: usize) -> Option<(RequestId, usize)> {
        if let Some(index) = self.open.get(&request)?.waiting_from(index + 1) {
            return Some((request, index));
        }
        let next = *self.flows.get(&key)?.range(RequestId(request.0 + 1)..).next()?;
        let open = self.open.get(&next)?;
        Some((next, open.waiting_from(open.next)?))
    }

    fn count(&mut self, key: FlowKey, sum: Sum) {
        self.total.add(sum);
        self.by_class[key.0.index()].add(sum);
        self.by_tenant.entry(key.1).or_default().add(sum);
    }

    fn uncount(&mut self, key: FlowKey, sum: Sum) {
        self.total.take(sum);
        self.by_class[key.0.index()].take(sum);
        if let Some(held) = self.by_tenant.get_mut(&key.1) {
            held.take(sum);
            if held.sequences == 0 {
                self.by_tenant.remove(&key.1);
            }
        }
    }

    fn queue(&mut self, key: FlowKey, id: RequestId) {
        self.ages.insert(id);
        self.flows.entry(key).or_default().insert(id);
        let weight = self.tenant_weights.get(&key.1).copied().unwrap_or(1.0);
        self.tenants[key.0.index()].enter(key.1, weight);
        self.classes.enter(key.0, self.weights[key.0.index()]);
    }

    fn unqueue(&mut self, key: FlowKey, id: RequestId) {
        self.ages.remove(&id);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.remove(&id);
        if flow.is_empty() {
            self.flows.remove(&key);
            self.tenants[key.0.index()].leave(key.1);
            if self.tenants[key.0.index()].len() == 0 {
                self.classes.leave(key.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(tenant: u64, priority: Priority, lengths: Vec<u32>) -> Open {
        Open::new(Request { tenant: Tenant(tenant), priority, lengths, deadline: None }, Duration::ZERO)
    }

    fn filled(requests: &[(u64, usize, Vec<u32>)]) -> Waiting {
        let mut waiting = Waiting::new(CostModel::default(), [16.0, 4.0, 1.0]);
        for (id, (tenant, priority, lengths)) in requests.iter().enumerate() {
            waiting.insert(RequestId(id as u64), request(*tenant, Priority::ALL[*priority], lengths.clone()));
        }
        waiting
    }

    fn requests() -> impl Strategy<Value = Vec<(u64, usize, Vec<u32>)>> {
        proptest::collection::vec((0_u64..4, 0_usize..3, proptest::collection::vec(1_u32..300, 1..6)), 1..20)
    }

    proptest! {
        #[test]
        fn what_is_seen_ahead_is_what_is_taken(requests in requests(), enough in 1_u64..2000) {
            let mut waiting = filled(&requests);
            let seen = waiting.preview(enough);
            prop_assert!(!seen.is_empty());
            for candidate in seen {
                let first = waiting.first().unwrap();
                prop_assert_eq!(first, candidate.sequence);
                waiting.take(first);
            }
        }

        #[test]
        fn sums_are_those_of_what_waits(requests in requests(), steps in proptest::collection::vec((0_u8..3, 0_u64..20), 0..80)) {
            let mut waiting = filled(&requests);
            let mut out = Vec::new();
            for (step, at) in steps {
                match step {
                    0 => if let Some(first) = waiting.first() { waiting.take(first); out.push(first) },
                    1 => if let Some(back) = out.pop() { waiting.put_back(back) },
                    _ => { waiting.remove(RequestId(at)); }
                }
                let mut total = Sum::default();
                waiting.open.values().for_each(|open| total.add(open.left));
                prop_assert_eq!(waiting.total, total);
                prop_assert_eq!(waiting.preview(u64::MAX).len() as u64, total.sequences);
                prop_assert_eq!(waiting.first().is_some(), total.sequences > 0);
                let mut tenants = Sum::default();
                waiting.by_tenant.values().for_each(|held| tenants.add(*held));
                prop_assert_eq!(tenants, total);
            }
        }
    }

    proptest! {
        /// Between the arrival of a sequence and its turn, no more is served than fair queueing allows, whatever else comes. With `A` the charge
        /// of its own flow up to it, `T` tenants of weight 1, weights `w` of classes and no item above `l`, and one item of each level for
        /// what a flow was served ahead of the virtual time before:
        /// its class has `W_c ≤ T (A + 3 l)`, and all have `Σ_k w_k (W_c + 2 l) / w_c + l`.
        #[test]
        fn nobody_starves(
            steps in proptest::collection::vec((0_u64..3, 0_usize..3, proptest::collection::vec(1_u32..300, 1..5), 0_usize..6), 1..150),
        ) {
            let (cost, weights, tenants) = (CostModel::default(), [16.0, 4.0, 1.0], 3.0);
            let longest = cost.charge(300);
            let mut waiting = Waiting::new(cost, weights);
            let (mut served, mut due) = (0.0, HashMap::new());
            let mut flows: HashMap<FlowKey, f64> = HashMap::new();
            let rest = (0, 0, Vec::new(), usize::MAX);
            for (number, (tenant, class, lengths, serve)) in steps.into_iter().chain([rest]).enumerate() {
                let id = RequestId(number as u64);
                let priority = Priority::ALL[class];
                for (index, tokens) in lengths.iter().enumerate() {
                    let ahead = flows.entry((priority, Tenant(tenant))).or_default();
                    *ahead += cost.charge(*tokens);
                    let of_class = tenants * (*ahead + 3.0 * longest);
                    let all: f64 = weights.iter().map(|w| w * (of_class + 2.0 * longest) / weights[class] + longest).sum();
                    due.insert((id, index), served + all);
                }
                if !lengths.is_empty() {
                    waiting.insert(id, request(tenant, priority, lengths));
                }
                for _ in 0..serve {
                    let Some(first) = waiting.first() else { break };
                    let open = &waiting.open[&first.request];
                    *flows.get_mut(&(open.priority, open.tenant)).unwrap() -= cost.charge(first.tokens);
                    waiting.take(first);
                    served += cost.charge(first.tokens);
                    let bound = due.remove(&(first.request, first.index)).unwrap();
                    prop_assert!(served <= bound, "{first:?}: {served} of {bound}");
                }
            }
            prop_assert!(due.is_empty());
        }
    }

    #[test]
    fn the_high_class_is_first_and_the_low_one_has_its_share() {
        let mut waiting = filled(&[(1, 2, vec![10; 2100]), (2, 0, vec![10; 2100])]);
        let mut served = [0, 0];
        for _ in 0..2100 {
            let first = waiting.first().unwrap();
            served[first.request.0 as usize] += 1;
            waiting.take(first);
        }
        // Weights 1 and 16: 2100 / 17 is 123.5.
        assert_eq!(served, [124, 1976]);
    }
}
