//! Texts as ids.

use crate::share;
use embral_kernels::Pool;
use embral_tokenize::Tokenizer;
use embral_types::Result;

/// Texts tokenised by one task.
const CHUNK: usize = 2048;

/// The ids of many texts, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    ids: Vec<u32>,
    offsets: Vec<usize>,
}

impl Tokens {
    /// Tokenises `texts`, each cut to `limit` ids.
    pub(crate) fn of(pool: &Pool, tokenizer: &Tokenizer, texts: &[String], limit: usize) -> Result<Self> {
        let parts = share::map(pool, texts.chunks(CHUNK), |texts| -> Result<(Vec<u32>, Vec<usize>)> {
            let (mut ids, mut lengths) = (Vec::new(), Vec::with_capacity(texts.len()));
            for text in texts {
                let found = tokenizer.encode(text, "")?.ids;
                let kept = &found[..found.len().min(limit)];
                ids.extend(kept);
                lengths.push(kept.len());
            }
            Ok((ids, lengths))
        });
        let mut tokens = Self { ids: Vec::new(), offsets: vec![0] };
        for part in parts {
            let (ids, lengths) = part?;
            tokens.ids.extend(ids);
            for length in lengths {
                tokens.offsets.push(tokens.offsets[tokens.offsets.len() - 1] + length);
            }
        }
        Ok(tokens)
    }

    pub(crate) fn text(&self, index: u32) -> &[u32] {
        &self.ids[self.offsets[index as usize]..self.offsets[index as usize + 1]]
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Ids of all texts.
    pub(crate) fn total(&self) -> usize {
        self.ids.len()
    }

    /// How often each of `vocab` ids stands in the texts.
    pub(crate) fn counts(&self, vocab: usize) -> Vec<u64> {
        let mut counts = vec![0; vocab];
        for &id in &self.ids {
            counts[id as usize] += 1;
        }
        counts
    }
}
