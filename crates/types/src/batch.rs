//! The packed batch: sequences one after the other, no padding.

/// Token ids of several sequences, concatenated.
///
/// Sequence `s` is `ids[offsets[s]..offsets[s + 1]]`; `offsets` has one entry more than there are sequences, starts at 0, never
/// decreases, and ends at `ids.len()`. A sequence may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    ids: Vec<u32>,
    offsets: Vec<u32>,
    /// The segment of each token; empty where all are 0.
    segments: Vec<u8>,
    /// Tokens of each sequence that its tokens see; empty where they see all.
    seen: Vec<u32>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { ids: Vec::new(), offsets: vec![0], segments: Vec::new(), seen: Vec::new() }
    }
}

impl Batch {
    /// An empty batch with room for `sequences` sequences of `tokens` tokens in all.
    pub fn with_capacity(sequences: usize, tokens: usize) -> Self {
        let mut offsets = Vec::with_capacity(sequences + 1);
        offsets.push(0);
        Self { ids: Vec::with_capacity(tokens), offsets, ..Self::default() }
    }

    /// Appends one sequence.
    ///
    /// # Panics
    /// Where the batch would hold more than `u32::MAX` tokens.
    pub fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.offsets.push(u32::try_from(self.ids.len()).expect("a batch holds fewer than 2^32 tokens"));
        if !self.segments.is_empty() {
            self.segments.resize(self.ids.len(), 0);
        }
        if !self.seen.is_empty() {
            self.seen.push(ids.len() as u32);
        }
    }

    /// Appends one sequence with the segment (the token type) of each of its tokens; none stands for 0 everywhere.
    ///
    /// # Panics
    /// As [`Batch::push`], and where there are segments, but not one a token.
    pub fn push_segments(&mut self, ids: &[u32], segments: &[u8]) {
        assert!(segments.is_empty() || segments.len() == ids.len(), "{} segments of {}", segments.len(), ids.len());
        let start = self.ids.len();
        self.push(ids);
        if segments.iter().any(|&segment| segment != 0) {
            self.segments.resize(self.ids.len(), 0);
            self.segments[start..].copy_from_slice(segments);
        }
    }

    /// Appends one sequence of which only the first `seen` tokens are seen by its tokens: those behind look on.
    ///
    /// # Panics
    /// As [`Batch::push`], and where `seen` is no number of tokens from 1 to all.
    pub fn push_seen(&mut self, ids: &[u32], seen: usize) {
        assert!((1..=ids.len()).contains(&seen), "{seen} of {} tokens are seen", ids.len());
        if self.seen.is_empty() && seen < ids.len() {
            self.seen = self.offsets.windows(2).map(|ends| ends[1] - ends[0]).collect();
        }
        let all = self.seen.is_empty() && seen == ids.len();
        self.push(ids);
        if !all {
            let last = self.len() - 1;
            self.seen.resize(last + 1, 0);
            self.seen[last] = seen as u32;
        }
    }

    /// Removes every sequence and keeps the memory.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.offsets.truncate(1);
        self.segments.clear();
        self.seen.clear();
    }

    /// The segment of each token, `[tokens]`; empty where all are 0.
    pub fn segments(&self) -> &[u8] {
        &self.segments
    }

    /// How many tokens of each sequence its tokens see, `[len]`, the first ones; empty where they see all.
    pub fn seen(&self) -> &[u32] {
        &self.seen
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of tokens in all sequences.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// All ids, `[tokens]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where each sequence starts and the last one ends, `[len + 1]`.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// The ids of one sequence.
    ///
    /// # Panics
    /// Where `index >= len()`.
    pub fn sequence(&self, index: usize) -> &[u32] {
        &self.ids[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    /// The sequences in order.
    pub fn sequences(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        (0..self.len()).map(|i| self.sequence(i))
    }
}

impl<'a> FromIterator<&'a [u32]> for Batch {
    fn from_iter<I: IntoIterator<Item = &'a [u32]>>(sequences: I) -> Self {
        let mut batch = Self::default();
        for ids in sequences {
            batch.push(ids);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_come_back_as_they_were_pushed() {
        let rows: [&[u32]; 4] = [&[1, 2], &[], &[3], &[4, 5, 6]];
        let mut batch: Batch = rows.into_iter().collect();
        assert_eq!(batch.sequences().collect::<Vec<_>>(), rows);
        assert_eq!((batch.len(), batch.tokens(), batch.offsets()), (4, 6, &[0, 2, 2, 3, 6][..]));
        batch.clear();
        assert!(batch.is_empty() && batch.tokens() == 0);
    }

    #[test]
    fn segments_and_what_is_seen_are_there_from_the_first_sequence_that_needs_them() {
        let mut batch = Batch::default();
        batch.push(&[1, 2]);
        batch.push_segments(&[3, 4], &[0, 0]);
        batch.push_seen(&[5], 1);
        assert!(batch.segments().is_empty() && batch.seen().is_empty());
        batch.push_segments(&[6, 7, 8], &[0, 0, 1]);
        assert_eq!(batch.segments(), [0, 0, 0, 0, 0, 0, 0, 1]);
        batch.push_seen(&[9, 9, 9], 2);
        batch.push_segments(&[1, 1], &[]);
        batch.push_seen(&[2], 1);
        assert_eq!(batch.segments().len(), batch.tokens());
        assert_eq!(batch.seen(), [2, 2, 1, 3, 2, 2, 1]);
        batch.clear();
        assert!(batch.segments().is_empty() && batch.seen().is_empty());
        assert_eq!(batch, Batch::default());
    }
}
