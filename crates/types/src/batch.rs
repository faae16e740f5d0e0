//! The packed batch: sequences one after the other, no padding.

/// Token ids of several sequences, concatenated.
///
/// Sequence `s` is `ids[offsets[s]..offsets[s + 1]]`; `offsets` has one entry more than there are sequences, starts at 0, never
/// decreases, and ends at `ids.len()`. A sequence may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    ids: Vec<u32>,
    offsets: Vec<u32>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { ids: Vec::new(), offsets: vec![0] }
    }
}

impl Batch {
    /// An empty batch with room for `sequences` sequences of `tokens` tokens in all.
    pub fn with_capacity(sequences: usize, tokens: usize) -> Self {
        let mut offsets = Vec::with_capacity(sequences + 1);
        offsets.push(0);
        Self { ids: Vec::with_capacity(tokens), offsets }
    }

    /// Appends one sequence.
    ///
    /// # Panics
    /// Where the batch would hold more than `u32::MAX` tokens.
    pub fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.offsets.push(u32::try_from(self.ids.len()).expect("a batch holds fewer than 2^32 tokens"));
    }

    /// Removes every sequence and keeps the memory.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.offsets.truncate(1);
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
}
