//! Two texts as one sequence: what stands around them, and how they are cut.

use crate::Truncation;

/// What a tokenizer puts around the two texts of a pair. Each special token comes with its segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairTemplate {
    pub(crate) before: Vec<(u32, u8)>,
    pub(crate) between: Vec<(u32, u8)>,
    pub(crate) after: Vec<(u32, u8)>,
    /// Of the tokens of the first text and of those of the second.
    pub(crate) segments: [u8; 2],
}

impl PairTemplate {
    /// `[CLS] A [SEP] B [SEP]`, the second text and what follows it in segment 1.
    pub(crate) fn bert(cls: u32, sep: u32) -> Self {
        Self { before: vec![(cls, 0)], between: vec![(sep, 0)], after: vec![(sep, 1)], segments: [0, 1] }
    }

    /// The template without its special tokens.
    pub(crate) fn bare(&self) -> Self {
        Self { segments: self.segments, ..Self::default() }
    }

    /// The special tokens of a pair.
    pub(crate) fn specials(&self) -> usize {
        self.before.len() + self.between.len() + self.after.len()
    }

    /// The ids of a pair, and their segments; none where all are 0.
    pub(crate) fn join(&self, first: &[u32], second: &[u32]) -> (Vec<u32>, Vec<u8>) {
        let text = |ids: &[u32], segment: u8| ids.iter().map(|&id| (id, segment)).collect::<Vec<_>>();
        let parts = [
            &self.before[..],
            &text(first, self.segments[0]),
            &self.between,
            &text(second, self.segments[1]),
            &self.after,
        ];
        let (ids, segments): (Vec<u32>, Vec<u8>) = parts.concat().into_iter().unzip();
        let segments = if segments.iter().all(|&segment| segment == 0) { Vec::new() } else { segments };
        (ids, segments)
    }
}

/// The tokens that are left of two texts where `room` are allowed: the longer text is cut first, down to the length of the shorter,
/// then both to halves. An odd token stays with the text that was longer, with the second where they were equal.
///
/// That is `longest_first` of transformers. (Where each text alone fills the room, its fast tokenisers stop reading and compare how far
/// they came, so that the odd token may be on the other side there.)
pub(crate) fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first.saturating_add(second) <= room {
        return (first, second);
    }
    let short = first.min(second).min(room / 2);
    if first > second { (room - short, short) } else { (short, room - short) }
}

/// Cuts a text to `keep` tokens, at its end or at its start.
pub(crate) fn cut(ids: &mut Vec<u32>, keep: usize, truncation: Truncation) {
    match truncation {
        Truncation::Left => drop(ids.drain(..ids.len() - keep.min(ids.len()))),
        Truncation::Right | Truncation::Error => ids.truncate(keep),
    }
}
