//! Start-time fair queueing: who is next, so that each of those who wait gets a share by weight.
//!
//! Each flow has a tag, its service so far over its weight, and the flow with the lowest tag is next. A flow that comes back does not
//! get what it did not ask for while it was away: its tag starts at the virtual time `V`, the tag of what was served last. Between any
//! two flows `f`, `g` that wait all the time, service `W` over weight `w` differs by no more than one item of each:
//!
//! ```text
//! | W_f / w_f − W_g / w_g | ≤ max_f / w_f + max_g / w_g
//! ```
//!
//! Goyal, Vin, Cheng, "Start-time Fair Queuing", SIGCOMM 1996, has the proof.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

/// Service over weight; a finite number, ordered as such.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tag(f64);

impl Eq for Tag {}

impl PartialOrd for Tag {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Tag {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    tag: Tag,
    weight: f64,
    waits: bool,
}

/// The flows of one level, by who is next. Every operation is O(log flows).
#[derive(Clone, Debug)]
pub(crate) struct FairOrder<K> {
    virtual_time: f64,
    /// Those that wait, and those that do not but were served ahead of the virtual time.
    flows: BTreeMap<K, Flow>,
    waiting: BTreeSet<(Tag, K)>,
    ahead: BTreeSet<(Tag, K)>,
}

impl<K: Ord + Clone> Default for FairOrder<K> {
    fn default() -> Self {
        Self { virtual_time: 0.0, flows: BTreeMap::new(), waiting: BTreeSet::new(), ahead: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> FairOrder<K> {
    /// From now on `key` waits. A key that waits already keeps its place.
    pub(crate) fn enter(&mut self, key: K, weight: f64) {
        let start = Tag(self.virtual_time);
        let flow = self.flows.entry(key.clone()).or_insert(Flow { tag: start, weight, waits: false });
        flow.weight = weight;
        if !flow.waits {
            let place = (flow.tag, key);
            self.ahead.remove(&place);
            let (_, key) = place;
            flow.tag = flow.tag.max(start);
            flow.waits = true;
            self.waiting.insert((flow.tag, key));
        }
    }

    /// From now on `key` waits no more.
    pub(crate) fn leave(&mut self, key: K) {
        let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.waits) else { return };
        flow.waits = false;
        let place = (flow.tag, key);
        self.waiting.remove(&place);
        self.ahead.insert(place);
        if self.waiting.is_empty() {
            // Nobody waits, so nobody is owed anything; tags begin at zero again and never lose digits.
            *self = Self::default();
        } else {
            self.forget();
        }
    }

    /// Who is next.
    pub(crate) fn first(&self) -> Option<K> {
        self.waiting.first().map(|(_, key)| key.clone())
    }

    /// Those who wait, the next one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &K> {
        self.waiting.iter().map(|(_, key)| key)
    }

    /// `key`, which waits, is served.
    pub(crate) fn charge(&mut self, key: K, amount: f64) {
        if let Some((tag, _)) = self.waiting.first() {
            self.virtual_time = self.virtual_time.max(tag.0);
        }
        self.shift(key, |tag, weight| tag + amount / weight);
        self.forget();
    }

    /// What `key`, which waits, was served is taken back.
    pub(crate) fn refund(&mut self, key: K, amount: f64) {
        let floor = self.virtual_time;
        self.shift(key, |tag, weight| (tag - amount / weight).max(floor));
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn shift(&mut self, key: K, to: impl Fn(f64, f64) -> f64) {
        if let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.waits) {
            let old = (flow.tag, key);
            self.waiting.remove(&old);
            flow.tag = Tag(to(flow.tag.0, flow.weight));
            self.waiting.insert((flow.tag, old.1));
        }
    }

    /// A flow that is away and not ahead of the others is as good as new: nothing is kept of it.
    fn forget(&mut self) {
        while self.ahead.first().is_some_and(|(tag, _)| tag.0 <= self.virtual_time) {
            if let Some((_, key)) = self.ahead.pop_first() {
                self.flows.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_follow_weights(
            weights in proptest::collection::vec(1_u8..20, 2..8), items in proptest::collection::vec(1_u16..500, 100..400),
        ) {
            let mut order = FairOrder::default();
            for (key, weight) in weights.iter().enumerate() {
                order.enter(key, f64::from(*weight));
            }
            let (mut served, mut longest) = (vec![0.0; weights.len()], vec![0.0_f64; weights.len()]);
            for item in items {
                let key = order.first().unwrap();
                order.charge(key, f64::from(item));
                served[key] += f64::from(item);
                longest[key] = longest[key].max(f64::from(item));
                let share = |key: usize| served[key] / f64::from(weights[key]);
                for (f, g) in (0..weights.len()).flat_map(|f| (0..f).map(move |g| (f, g))) {
                    let bound = longest[f] / f64::from(weights[f]) + longest[g] / f64::from(weights[g]);
                    prop_assert!((share(f) - share(g)).abs() <= bound + 1e-6);
                }
            }
        }

        #[test]
        fn nothing_is_kept_of_those_who_are_away_and_owe_nothing(steps in proptest::collection::vec((0_u8..30, 0_u8..3), 0..300)) {
            let mut order = FairOrder::default();
            for (key, step) in steps {
                match step {
                    0 => order.enter(key, 1.0),
                    1 => order.leave(key),
                    _ => if let Some(first) = order.first() { order.charge(first, f64::from(key)) },
                }
                let waiting = order.flows.values().filter(|flow| flow.waits).count();
                prop_assert_eq!(waiting, order.waiting.len());
                prop_assert_eq!(order.flows.len(), order.waiting.len() + order.ahead.len());
                prop_assert!(order.ahead.iter().all(|(tag, _)| tag.0 > order.virtual_time));
                prop_assert!(waiting > 0 || order.flows.is_empty());
            }
        }
    }

    #[test]
    fn who_comes_back_is_next_but_does_not_catch_up() {
        let mut order = FairOrder::default();
        order.enter("bulk", 1.0);
        for _ in 0..100 {
            order.charge("bulk", 10.0);
        }
        order.enter("single", 1.0);
        assert_eq!(order.first(), Some("single"));
        order.charge("single", 20.0);
        assert_eq!(order.first(), Some("bulk"));
        order.charge("bulk", 11.0);
        assert_eq!(order.first(), Some("single"));
    }

    #[test]
    fn what_comes_back_uncomputed_is_not_paid_for() {
        let mut order = FairOrder::default();
        order.enter("a", 1.0);
        order.enter("b", 1.0);
        order.charge("a", 100.0);
        order.refund("a", 100.0);
        assert_eq!(order.first(), Some("a"));
        assert_eq!(order.len(), 2);
    }
}
