//! Any pipeline that a `tokenizer.json` can describe, run by the `tokenizers` crate.

use crate::{pair::PairTemplate, span::Span};
use embral_types::{Error, ErrorKind, Result, guarded};
use serde::{Deserialize, de::IgnoredAny};
use std::collections::HashMap;
use tokenizers::{
    Encoding, ModelWrapper, NormalizerWrapper, Token, Tokenizer,
    normalizers::{Lowercase, Sequence},
};

#[derive(Clone, Debug)]
pub(crate) struct General {
    tokenizer: Tokenizer,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    pair: Option<PairTemplate>,
    unknown: Option<u32>,
    size: usize,
}

/// The one value of a Unigram model that the `tokenizers` crate keeps to itself.
#[derive(Deserialize)]
struct File {
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    unk_id: Option<u32>,
}

fn failed(what: &str, e: tokenizers::Error) -> Error {
    Error::new(ErrorKind::Malformed, format!("{what}: {e}")).because(e)
}

/// Runs code of the `tokenizers` crate, which panics on some of the files that it cannot make sense of.
fn foreign<T>(what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded(run).unwrap_or_else(|| {
        let message = format!("{what}: the parts of the tokenizer do not fit together");
        Err(Error::new(ErrorKind::Malformed, message).hint("export the tokenizer again"))
    })
}

impl General {
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self> {
        // Bytes that are no JSON are the commonest damage, and the `tokenizers` crate panics on some of them.
        serde_json::from_slice::<IgnoredAny>(bytes)
            .map_err(|e| Error::new(ErrorKind::Malformed, format!("no tokenizer.json: {e}")).because(e))?;
        foreign("no tokenizer.json", || Self::from_valid_json(bytes))
    }

    fn from_valid_json(bytes: &[u8]) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| failed("no tokenizer.json", e))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| failed("truncation cannot be switched off", e))?;
        let (prefix, suffix) = specials(&tokenizer)?;
        let unknown = match tokenizer.get_model() {
            ModelWrapper::BPE(m) => m.unk_token.as_deref().and_then(|t| tokenizer.token_to_id(t)),
            ModelWrapper::WordPiece(m) => tokenizer.token_to_id(&m.unk_token),
            ModelWrapper::WordLevel(m) => tokenizer.token_to_id(&m.unk_token),
            ModelWrapper::Unigram(_) => serde_json::from_slice::<File>(bytes).ok().and_then(|f| f.model.unk_id),
        };
        let size = tokenizer.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let pair = pair(&tokenizer)?;
        let of_pair = pair.iter().flat_map(|p| [&p.before, &p.between, &p.after]).flatten().map(|(id, _)| id);
        if let Some(id) = prefix.iter().chain(&suffix).chain(of_pair).find(|&&id| id as usize >= size) {
            let message = format!("the post-processor adds token {id}, and the vocabulary ends at {}", size.max(1) - 1);
            return Err(Error::new(ErrorKind::Mismatch, message).hint("export the tokenizer again"));
        }
        Ok(Self { tokenizer, prefix, suffix, pair, unknown, size })
    }

    pub(crate) fn lower_case_first(&mut self) -> Result<()> {
        let steps = match self.tokenizer.get_normalizer() {
            Some(NormalizerWrapper::Sequence(sequence)) => sequence.as_ref().to_vec(),
            Some(one) => vec![one.clone()],
            None => vec![],
        };
        if steps.iter().any(|s| matches!(s, NormalizerWrapper::Lowercase(_))) {
            return Ok(());
        }
        let steps = [vec![Lowercase.into()], steps].concat();
        foreign("the tokenizer cannot lower-case first", || {
            let set = self.tokenizer.with_normalizer(Some(Sequence::new(steps)));
            set.map(|_| ()).map_err(|e| failed("the tokenizer cannot lower-case first", e))
        })
    }

    pub(crate) fn content(&self, text: &str, dropped: Option<u32>, ids: &mut Vec<u32>) -> Result<()> {
        let what = "the text cannot be tokenised";
        let encoding = foreign(what, || self.tokenizer.encode_fast(text, false).map_err(|e| failed(what, e)))?;
        ids.extend(encoding.get_ids().iter().filter(|&&id| Some(id) != dropped));
        Ok(())
    }

    /// The tokens of `text` that are not `dropped`, without special tokens.
    pub(crate) fn spans_of(&self, text: &str, dropped: Option<u32>) -> Result<Vec<Span>> {
        let what = "the text cannot be tokenised";
        let encoding = foreign(what, || self.tokenizer.encode(text, false).map_err(|e| failed(what, e)))?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        let spans = tokens.map(|(&id, &(start, end))| Span { id, bytes: start..end });
        Ok(spans.filter(|span| Some(span.id) != dropped).collect())
    }

    pub(crate) fn decode(&self, ids: &[u32], special: bool) -> Result<String> {
        let what = "the ids cannot be decoded";
        foreign(what, || self.tokenizer.decode(ids, !special).map_err(|e| failed(what, e)))
    }

    pub(crate) fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    pub(crate) fn suffix(&self) -> &[u32] {
        &self.suffix
    }

    pub(crate) fn pair(&self) -> Option<&PairTemplate> {
        self.pair.as_ref()
    }

    pub(crate) fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.size
    }

    pub(crate) fn vocabulary(&self) -> HashMap<String, u32> {
        self.tokenizer.get_vocab(true)
    }
}

/// An id that no vocabulary has.
const MARK: u32 = u32::MAX;

/// What the post-processor puts around a pair, found by letting it process two sequences that hold nothing but an id that no
/// vocabulary has each; nothing where it does not put one behind the other.
fn pair(tokenizer: &Tokenizer) -> Result<Option<PairTemplate>> {
    let marked = |mark: u32| Encoding::from_tokens(vec![Token::new(mark, "x".into(), (0, 1))], 0);
    let processed = tokenizer
        .post_process(marked(MARK), Some(marked(MARK - 1)), true)
        .map_err(|e| failed("the post-processor of the tokenizer failed", e))?;
    let mut tokens = Vec::new();
    for (&id, &segment) in processed.get_ids().iter().zip(processed.get_type_ids()) {
        let Ok(segment) = u8::try_from(segment) else { return Ok(None) };
        tokens.push((id, segment));
    }
    let places = |mark: u32| tokens.iter().enumerate().filter(move |(_, t)| t.0 == mark).map(|(at, _)| at);
    let (Some(first), Some(second)) = (places(MARK).next(), places(MARK - 1).next()) else { return Ok(None) };
    if first > second || places(MARK).count() + places(MARK - 1).count() != 2 {
        return Ok(None);
    }
    Ok(Some(PairTemplate {
        before: tokens[..first].to_vec(),
        between: tokens[first + 1..second].to_vec(),
        after: tokens[second + 1..].to_vec(),
        segments: [tokens[first].1, tokens[second].1],
    }))
}

/// The ids that the post-processor puts before and after a single sequence, found by letting it process one that holds nothing
/// but an id no vocabulary has.
fn specials(tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    let marked = Encoding::from_tokens(vec![Token::new(MARK, "x".into(), (0, 1))], 0);
    let processed = tokenizer
        .post_process(marked, None, true)
        .map_err(|e| failed("the post-processor of the tokenizer failed", e))?;
    let ids = processed.get_ids();
    match ids.iter().position(|&id| id == MARK) {
        Some(at) if !ids[at + 1..].contains(&MARK) => Ok((ids[..at].to_vec(), ids[at + 1..].to_vec())),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "the post-processor of the tokenizer does not hold the text exactly once",
        )),
    }
}
