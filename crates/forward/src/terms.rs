//! The head of a masked language model: a logit for each entry of the vocabulary, pooled over the tokens of a text.

use crate::Head;
use embral_backend::{Backend, Dense};
use embral_types::{Activation, Batch, Precision, Result};

/// Token rows whose logits are made at a time: with a vocabulary of 30,522 entries they take 16 MB.
const ROWS: usize = 128;

/// `norm(act(x Tᵀ + t)) Dᵀ + d` for each token.
pub struct Terms<B: Backend> {
    transform: Head<B>,
    norm: Head<B>,
    decoder: B::Linear,
    vocab: usize,
}

impl<B: Backend> Terms<B> {
    /// Puts the head together; the products of the decoder are of the numbers that `precision` names.
    ///
    /// # Errors
    /// Where the shapes of weight and bias disagree.
    pub fn new(
        backend: &B,
        transform: Head<B>,
        norm: Head<B>,
        decoder: Dense<'_>,
        precision: Precision,
    ) -> Result<Self> {
        let vocab = decoder.weight.shape().first().copied().unwrap_or(0);
        Ok(Self { transform, norm, decoder: backend.load_linear(&[decoder], precision)?, vocab })
    }

    /// The entries of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Makes the logits of `rows`, `[tokens, hidden]`, and gives them token by token, in order: the sequence of the token, and its
    /// logits, `[vocab]`.
    ///
    /// # Errors
    /// Where a buffer cannot be had.
    pub fn logits(
        &self,
        backend: &B,
        rows: &B::Buffer,
        hidden: usize,
        batch: &Batch,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let tokens = batch.tokens();
        let rows = self.transform.applied(backend, rows, tokens, hidden)?;
        let width = self.transform.width(hidden);
        let rows = self.norm.apply(backend, rows, tokens, width)?;
        let mut out = vec![0.0; ROWS.min(tokens) * self.vocab];
        let mut sequence = 0;
        for first in (0..tokens).step_by(ROWS) {
            let count = ROWS.min(tokens - first);
            let mut some = backend.buffer(count, width)?;
            backend.rows(&rows, first, &mut some)?;
            let mut logits = backend.buffer(count, self.vocab)?;
            backend.linear(&some, &self.decoder, Activation::Identity, &mut logits)?;
            let out = &mut out[..count * self.vocab];
            backend.read(&logits, out)?;
            for (token, logits) in (first..).zip(out.chunks_exact(self.vocab)) {
                while batch.offsets()[sequence + 1] as usize <= token {
                    sequence += 1;
                }
                each(sequence, logits);
            }
        }
        Ok(())
    }
}
