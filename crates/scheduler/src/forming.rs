//! Which of the sequences that wait make a batch.
//!
//! Without padding a batch is what is due, in its order, as far as it fits. Where sequences are padded, the batch is made of the sequence
//! that is due first and those next to it in length, out of a window of the sequences due next. Nothing starves: the first is always
//! in the batch, and from the moment that a sequence of the window was passed over [`Grouping::most_passes`] times until it is
//! served, batches are made in the order due. Grouping so delays a sequence by that many batches at most.

use crate::request::SequenceRef;
use crate::{
    Shape,
    waiting::{Candidate, Waiting},
};

/// How sequences of like lengths are put together where a batch is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// The batches' worth of tokens, of those due next, out of which one batch is made.
    pub window: u32,
    /// How many batches may pass a sequence over.
    pub most_passes: u8,
}

impl Default for Grouping {
    fn default() -> Self {
        Self { window: 4, most_passes: 4 }
    }
}

/// A batch made up, and what the order due would have made of the same room.
pub(crate) struct Formed {
    pub(crate) sequences: Vec<SequenceRef>,
    pub(crate) shape: Shape,
    /// The shape in the order due.
    pub(crate) in_order: Shape,
}

/// The share of padding below which lengths are left as they come.
const PADDING_WORTH_GROUPING: f64 = 0.1;

/// Takes a batch out of what waits: at least one sequence, and more while the shape with one more `fits`.
pub(crate) fn form(waiting: &mut Waiting, grouping: Option<(Grouping, u64)>, fits: impl Fn(&Shape) -> bool) -> Formed {
    if let Some((grouping, budget)) = grouping
        && let Some(formed) = grouped(waiting, grouping, budget, &fits)
    {
        return formed;
    }
    let (mut sequences, mut shape) = (Vec::new(), Shape::default());
    while let Some(next) = waiting.first() {
        let with = shape.with(next.tokens);
        if !sequences.is_empty() && !fits(&with) {
            break;
        }
        shape = with;
        waiting.take(next);
        sequences.push(next);
    }
    Formed { sequences, shape, in_order: shape }
}

/// A batch of like lengths, where the order due would pad much and nobody has been passed over too often.
fn grouped(waiting: &mut Waiting, grouping: Grouping, budget: u64, fits: &impl Fn(&Shape) -> bool) -> Option<Formed> {
    let window = waiting.preview(budget.saturating_mul(u64::from(grouping.window)));
    let mut in_order = Shape::default();
    let prefix = window
        .iter()
        .take_while(|candidate| {
            let with = in_order.with(candidate.sequence.tokens);
            let room = in_order.sequences == 0 || fits(&with);
            if room {
                in_order = with;
            }
            room
        })
        .count();
    let helps = prefix < window.len() && padding(&in_order) > PADDING_WORTH_GROUPING;
    if !helps || window.iter().any(|candidate| candidate.passed >= grouping.most_passes) {
        return None;
    }
    let chosen = nearest(&window, fits);
    let mut shape = Shape::default();
    chosen.iter().for_each(|at| shape.add(window[*at].sequence.tokens));
    if padding(&shape) >= padding(&in_order) {
        return None;
    }
    let last = *chosen.last()?;
    let mut sequences = Vec::with_capacity(chosen.len());
    let mut next = chosen.iter().peekable();
    for (at, candidate) in window.iter().enumerate().take(last + 1) {
        if next.next_if(|chosen| **chosen == at).is_some() {
            waiting.take(candidate.sequence);
            sequences.push(candidate.sequence);
        } else {
            waiting.pass(candidate.sequence);
        }
    }
    Some(Formed { sequences, shape, in_order })
}

/// The first candidate and those next to it in length, as many as fit, by their places in the window.
fn nearest(window: &[Candidate], fits: &impl Fn(&Shape) -> bool) -> Vec<usize> {
    let tokens = |at: usize| window[at].sequence.tokens;
    let leader = tokens(0);
    let (mut shorter, mut longer): (Vec<usize>, Vec<usize>) = (1..window.len()).partition(|at| tokens(*at) < leader);
    // Stable: of equal lengths the one due first.
    shorter.sort_by_key(|at| std::cmp::Reverse(tokens(*at)));
    longer.sort_by_key(|at| tokens(*at));
    let (mut shorter, mut longer) = (shorter.into_iter().peekable(), longer.into_iter().peekable());
    let (mut chosen, mut shape) = (vec![0], Shape::default().with(leader));
    loop {
        let (down, up) = (shorter.peek().copied(), longer.peek().copied());
        let go_down = match (down, up) {
            (Some(down), Some(up)) => leader - tokens(down) <= tokens(up) - leader,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        let side = if go_down { &mut shorter } else { &mut longer };
        let Some(at) = side.next() else { break };
        let with = shape.with(tokens(at));
        if fits(&with) {
            shape = with;
            chosen.push(at);
        } else if go_down {
            // A shorter one costs the same as this one: padded to the longest.
            break;
        } else {
            longer = Vec::new().into_iter().peekable();
        }
    }
    chosen.sort_unstable();
    chosen
}

/// The share of the tokens of a padded batch that are padding.
fn padding(shape: &Shape) -> f64 {
    1.0 - shape.tokens as f64 / shape.padded_tokens().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CostModel, Priority, RequestId, Tenant, request::Request, waiting::Open};
    use proptest::prelude::*;
    use std::time::Duration;

    fn filled(lengths: &[u32]) -> Waiting {
        let mut waiting = Waiting::new(CostModel { padded: true, ..CostModel::default() }, [16.0, 4.0, 1.0]);
        for (id, tokens) in lengths.iter().enumerate() {
            let request =
                Request { tenant: Tenant(0), priority: Priority::Normal, lengths: vec![*tokens], deadline: None };
            waiting.insert(RequestId(id as u64), Open::new(request, Duration::ZERO));
        }
        waiting
    }

    fn drain(lengths: &[u32], budget: u64, grouping: Option<Grouping>) -> Vec<Formed> {
        let mut waiting = filled(lengths);
        let mut batches = Vec::new();
        while waiting.total().sequences > 0 {
            batches.push(form(&mut waiting, grouping.map(|g| (g, budget)), |shape| shape.padded_tokens() <= budget));
        }
        batches
    }

    proptest! {
        #[test]
        fn grouping_delays_nobody_by_more_than_its_bound(
            lengths in proptest::collection::vec(1_u32..400, 1..200), budget in 100_u64..2000, window in 1_u32..6, most_passes in 0_u8..5,
        ) {
            let batches = drain(&lengths, budget, Some(Grouping { window, most_passes }));
            let mut served = vec![None; lengths.len()];
            for (number, batch) in batches.iter().enumerate() {
                prop_assert!(batch.shape.padded_tokens() <= budget || batch.sequences.len() == 1);
                for sequence in &batch.sequences {
                    let at = sequence.request.0 as usize;
                    prop_assert!(served[at].replace(number).is_none(), "{at} is in two batches");
                }
            }
            let served: Vec<usize> = served.into_iter().map(Option::unwrap).collect();
            for (at, number) in served.iter().enumerate() {
                // A batch passes a sequence over where one behind it is in the batch and it is not.
                let passes = (0..*number).filter(|n| served[at + 1..].contains(n)).count();
                prop_assert!(passes <= usize::from(most_passes), "{at} was passed over by {passes} batches");
                prop_assert!(*number <= at + usize::from(most_passes));
            }
        }

        #[test]
        fn the_order_due_is_kept_without_grouping(lengths in proptest::collection::vec(1_u32..400, 1..100), budget in 1_u64..2000) {
            let order: Vec<u64> =
                drain(&lengths, budget, None).iter().flat_map(|b| b.sequences.iter().map(|s| s.request.0)).collect();
            prop_assert_eq!(order, (0..lengths.len() as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn grouping_saves_padding_where_lengths_differ() {
        let lengths: Vec<u32> = (0..400).map(|i| if i % 2 == 0 { 10 } else { 200 }).collect();
        let padded = |batches: &[Formed]| batches.iter().map(|b| b.shape.padded_tokens()).sum::<u64>();
        let real = lengths.iter().map(|tokens| u64::from(*tokens)).sum::<u64>();
        let (alone, grouped) = (drain(&lengths, 2000, None), drain(&lengths, 2000, Some(Grouping::default())));
        assert!(padded(&alone) > real * 18 / 10, "{}", padded(&alone));
        assert!(padded(&grouped) < real * 13 / 10, "{} of {real}", padded(&grouped));
    }
}
