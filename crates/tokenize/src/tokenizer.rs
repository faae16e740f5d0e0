//! The tokenizer: a pipeline, its special tokens, and the limit.

use crate::{
    Options, Truncation,
    bert::{Bert, BertOptions},
    general::General,
    pair::{cut, longest_first},
    roberta,
    span::{Parts, Span},
};
use embral_types::{Batch, Error, ErrorKind, Result};
use std::{borrow::Cow, fs, path::Path, sync::Arc};

/// The token ids of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The ids, special tokens included.
    pub ids: Vec<u32>,
    /// Whether something was cut off, by the limit of tokens or of characters.
    pub truncated: bool,
    /// How many of the first ids belong to the prompt, the special tokens before it included; 0 without a prompt.
    /// See [`Tokenizer::prompt_tokens`].
    pub prompt_tokens: usize,
    /// The segment (the token type) of each id; empty where all are 0, as those of a single text are.
    pub segments: Vec<u8>,
    /// How many of the ids the others see, the first ones; `None` where they see all.
    pub seen: Option<usize>,
}

impl Encoded {
    /// Query expansion as ColBERT has it: `id` behind the text until there are `length` ids. The added ones see the text; the text sees
    /// them where it is to `attend` to them.
    pub fn expand(&mut self, id: u32, length: usize, attend: bool) {
        let text = self.ids.len();
        if text < length {
            self.ids.resize(length, id);
            self.seen = (!attend).then_some(text);
        }
    }
}

/// Turns texts into token ids. Shared by threads without locks of its own; a clone shares the vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pipeline: Pipeline,
    options: Options,
}

#[derive(Clone, Debug)]
pub(crate) enum Pipeline {
    Bert(Arc<Bert>),
    General(Arc<General>),
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Truncation and padding that it asks for are switched off: [`Options`] decides.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| Error::io("cannot read the tokenizer", path, e))?;
        Self::from_bytes(&bytes).map_err(|e| e.in_file(path))
    }

    /// As [`Tokenizer::from_file`], from the bytes of the file.
    ///
    /// A BERT tokenizer of 30,000 pieces takes about 4 ms; another takes what the `tokenizers` crate takes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(match Bert::from_json(bytes) {
            Some(bert) => Self::new(Pipeline::Bert(Arc::new(bert))),
            None => Self::new(Pipeline::General(Arc::new(General::from_json(bytes)?))),
        })
    }

    /// Reads a BERT `vocab.txt`: one piece a line, the line number is the id.
    pub fn from_vocab(path: &Path, options: &BertOptions) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| Error::io("cannot read the vocabulary", path, e))?;
        Self::from_vocab_bytes(&bytes, options).map_err(|e| e.in_file(path))
    }

    /// As [`Tokenizer::from_vocab`], from the bytes of the file. A vocabulary of 30,000 pieces takes about 2 ms.
    pub fn from_vocab_bytes(bytes: &[u8], options: &BertOptions) -> Result<Self> {
        Ok(Self::new(Pipeline::Bert(Arc::new(Bert::from_vocab(bytes, options)?))))
    }

    /// Reads the `vocab.json` and the `merges.txt` of RoBERTa; `prefix_space` puts a space before every text.
    pub fn from_pairs(vocabulary: &Path, merges: &Path, prefix_space: bool) -> Result<Self> {
        let read = |path: &Path| fs::read(path).map_err(|e| Error::io("cannot read the tokenizer", path, e));
        Self::from_pairs_bytes(&read(vocabulary)?, &read(merges)?, prefix_space).map_err(|e| e.in_file(vocabulary))
    }

    /// As [`Tokenizer::from_pairs`], from the bytes of the files.
    pub fn from_pairs_bytes(vocabulary: &[u8], merges: &[u8], prefix_space: bool) -> Result<Self> {
        Self::from_bytes(&roberta::json_of(vocabulary, merges, prefix_space)?)
    }

    pub(crate) fn new(pipeline: Pipeline) -> Self {
        Self { pipeline, options: Options::default() }
    }

    /// The same tokenizer with other options.
    ///
    /// Fails where `max_tokens` leaves no room for the special tokens.
    pub fn with(mut self, options: Options) -> Result<Self> {
        if options.lower_case {
            match &mut self.pipeline {
                Pipeline::Bert(bert) => Arc::make_mut(bert).lower_case_first(),
                Pipeline::General(general) => Arc::make_mut(general).lower_case_first()?,
            }
        }
        self.options = options;
        let specials = self.specials();
        if let Some(limit) = self.options.max_tokens
            && limit < specials
        {
            let message = format!("max_tokens is {limit}, but the special tokens of the model alone are {specials}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(self)
    }

    /// The options in force.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The token ids of `prompt` followed by `text`.
    pub fn encode(&self, text: &str, prompt: &str) -> Result<Encoded> {
        let mut ids = Vec::with_capacity(32);
        let truncated = self.encode_to(text, prompt, &[], self.options.max_tokens, &mut ids)?;
        let prompt_tokens = if prompt.is_empty() { 0 } else { self.prompt_tokens(prompt)?.min(ids.len()) };
        Ok(Encoded { ids, truncated, prompt_tokens, ..Encoded::default() })
    }

    /// The token ids of two texts as one sequence, such as `[CLS] first [SEP] second [SEP]`. Where they are too long together, the
    /// longer one is cut first (`longest_first` of transformers), each at the side that [`Options::truncation`] names.
    ///
    /// Fails where the tokenizer has no form for a pair, and where the pair is too long and truncation is refused.
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<Encoded> {
        let template = match &self.pipeline {
            Pipeline::Bert(bert) => bert.pair(),
            Pipeline::General(general) => general.pair(),
        };
        let template = template.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the tokenizer has no form for a pair of texts")
                .hint("the post-processor of its tokenizer.json says where the second text goes")
        })?;
        let bare;
        let template = if self.options.special_tokens {
            template
        } else {
            bare = template.bare();
            &bare
        };
        let room = match self.options.max_tokens {
            None => usize::MAX,
            Some(limit) => limit.checked_sub(template.specials()).ok_or_else(|| {
                let message = format!("max_tokens is {limit}, but a pair has {} special tokens", template.specials());
                Error::new(ErrorKind::InvalidInput, message)
            })?,
        };
        let right = self.options.truncation == Truncation::Right;
        let read = |text: &str, enough: usize| {
            let mut ids = Vec::with_capacity(32);
            self.content(text, if right { enough } else { usize::MAX }, &mut ids).map(|()| ids)
        };
        let enough = room.saturating_add(1);
        let (mut a, mut b) = (read(first, enough)?, read(second, enough)?);
        // Of two texts that both fill the room, the longer one gets the odd token, so their ends have to be found.
        if right && a.len() > room && b.len() > room && room % 2 == 1 {
            (a, b) = (read(first, usize::MAX)?, read(second, usize::MAX)?);
        }
        let found = a.len().saturating_add(b.len());
        if found > room && self.options.truncation == Truncation::Error {
            let (all, limit) = (found + template.specials(), room + template.specials());
            let message = format!("the pair has {all} tokens, the limit is {limit}");
            return Err(Error::new(ErrorKind::TooLong, message)
                .hint("shorten it, raise max-tokens where the model allows it, or allow truncation"));
        }
        let (keep_a, keep_b) = longest_first(a.len(), b.len(), room);
        cut(&mut a, keep_a, self.options.truncation);
        cut(&mut b, keep_b, self.options.truncation);
        let (ids, segments) = template.join(&a, &b);
        Ok(Encoded { ids, truncated: found > room, segments, ..Encoded::default() })
    }

    /// The ids of a text without special tokens, cut nowhere.
    pub fn pieces(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.content(text, usize::MAX, &mut ids)?;
        Ok(ids)
    }

    /// The token ids of `prompt` followed by `text`, behind the ids of `lead`, which stand after the special tokens at the start; of
    /// all of them as many as `limit` allows, where it is the smaller limit.
    ///
    /// Fails as [`Tokenizer::encode`], and where the limit leaves no room for a text.
    pub fn encode_behind(&self, lead: &[u32], prompt: &str, text: &str, limit: Option<usize>) -> Result<Encoded> {
        let limit = [limit, self.options.max_tokens].into_iter().flatten().min();
        if let Some(limit) = limit.filter(|&limit| limit < self.specials() + lead.len()) {
            let message =
                format!("the limit is {limit} tokens, but {} stand around a text", self.specials() + lead.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mut ids = Vec::with_capacity(32);
        let truncated = self.encode_to(text, prompt, lead, limit, &mut ids)?;
        Ok(Encoded { ids, truncated, ..Encoded::default() })
    }

    /// Appends the token ids of `prompt` followed by `text` to `batch`, as one sequence. Returns whether something was cut off.
    pub fn encode_into(&self, text: &str, prompt: &str, batch: &mut Batch) -> Result<bool> {
        let mut ids = Vec::with_capacity(32);
        let truncated = self.encode_to(text, prompt, &[], self.options.max_tokens, &mut ids)?;
        batch.push(&ids);
        Ok(truncated)
    }

    /// How many tokens at the start of a sequence belong to `prompt`: those that the prompt alone has, special tokens included,
    /// without the special tokens after it. 0 for the empty prompt. Models with `include_prompt: false` leave them out of the
    /// pooling.
    pub fn prompt_tokens(&self, prompt: &str) -> Result<usize> {
        if prompt.is_empty() {
            return Ok(0);
        }
        let mut ids = Vec::new();
        self.content(prompt, usize::MAX, &mut ids)?;
        let room = self.options.max_tokens.map_or(usize::MAX, |limit| limit - self.specials());
        Ok(self.prefix().len() + ids.len().min(room))
    }

    /// How many tokens of a text fit beside the special tokens and `prompt`; `usize::MAX` where there is no limit.
    ///
    /// Fails where there is no room at all.
    pub fn room(&self, prompt: &str) -> Result<usize> {
        let Some(limit) = self.options.max_tokens else { return Ok(usize::MAX) };
        let mut ids = Vec::new();
        self.content(prompt, usize::MAX, &mut ids)?;
        match limit.saturating_sub(self.specials() + ids.len()) {
            0 => Err(Error::new(ErrorKind::InvalidInput, format!("the prompt fills the limit of {limit} tokens"))),
            room => Ok(room),
        }
    }

    /// Whether `text` alone would be cut by the number of its characters.
    pub fn is_capped(&self, text: &str) -> bool {
        self.cap(text).1
    }

    /// The number of tokens of `text` alone, without special tokens and whatever the limits; may stop counting behind `enough`.
    pub fn count(&self, text: &str, enough: usize) -> Result<usize> {
        let mut ids = Vec::new();
        self.content(text, enough, &mut ids)?;
        Ok(ids.len())
    }

    /// The tokens of `text` alone with their bytes, in the order of the text, without special tokens and whatever the limit.
    pub fn spans(&self, text: &str) -> Result<Vec<Span>> {
        let dropped = if self.options.drop_unknown { self.unknown() } else { None };
        match &self.pipeline {
            Pipeline::Bert(bert) => Ok(bert.spans_of(text, dropped)),
            Pipeline::General(general) => general.spans_of(text, dropped),
        }
    }

    /// `prompt` followed by `text`, in parts, whatever the limit: together they are the ids of [`Tokenizer::encode`] where nothing
    /// is cut.
    pub fn parts(&self, text: &str, prompt: &str) -> Result<Parts> {
        let joined: Cow<'_, str> = if prompt.is_empty() { text.into() } else { [prompt, text].concat().into() };
        let mut tokens = self.spans(&joined)?;
        let prompt_tokens = if prompt.is_empty() { 0 } else { self.count(prompt, usize::MAX)?.min(tokens.len()) };
        let rest = tokens.split_off(prompt_tokens);
        let moved = |span: Span| {
            let place = |at: usize| at.saturating_sub(prompt.len());
            Span { id: span.id, bytes: place(span.bytes.start)..place(span.bytes.end) }
        };
        Ok(Parts {
            prefix: self.prefix().to_vec(),
            prompt: tokens.into_iter().map(|span| span.id).collect(),
            tokens: rest.into_iter().map(moved).collect(),
            suffix: self.suffix().to_vec(),
        })
    }

    /// The text of `ids`, special tokens left out. Ids that the vocabulary lacks are left out too.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode_as(ids, false)
    }

    /// As [`Tokenizer::decode`], with the `special` tokens in it where they are wanted.
    pub fn decode_as(&self, ids: &[u32], special: bool) -> Result<String> {
        match &self.pipeline {
            Pipeline::Bert(bert) => Ok(bert.decode(ids, special)),
            Pipeline::General(general) => general.decode(ids, special),
        }
    }

    /// The same tokenizer with another way to cut; the vocabulary is shared.
    #[must_use]
    pub fn with_truncation(&self, truncation: Truncation) -> Self {
        let mut other = self.clone();
        if truncation != Truncation::Right {
            // A text that is refused or kept at its end is not cut blindly.
            other.options.char_cap = None;
        }
        other.options.truncation = truncation;
        other
    }

    /// The piece of an id, as it stands in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.pipeline {
            Pipeline::Bert(bert) => bert.vocabulary().token(id).map(str::to_owned),
            Pipeline::General(general) => general.token(id),
        }
    }

    /// The id of a piece of the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        match &self.pipeline {
            Pipeline::Bert(bert) => bert.vocabulary().id(token),
            Pipeline::General(general) => general.id(token),
        }
    }

    /// One more than the largest id; ids that the vocabulary leaves out count.
    pub fn vocab_size(&self) -> usize {
        match &self.pipeline {
            Pipeline::Bert(bert) => bert.vocabulary().size(),
            Pipeline::General(general) => general.vocab_size(),
        }
    }

    /// The id that stands for what the vocabulary cannot express, where there is one.
    pub fn unknown(&self) -> Option<u32> {
        match &self.pipeline {
            Pipeline::Bert(bert) => Some(bert.unknown()),
            Pipeline::General(general) => general.unknown(),
        }
    }

    /// The ids that stand for no part of a text: those put around it, the unknown one, and padding.
    pub fn special_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.prefix().iter().chain(self.suffix()).copied().chain(self.unknown()).collect();
        ids.extend(["[PAD]", "<pad>"].into_iter().filter_map(|token| self.id(token)));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The median number of characters of a piece, rounded down: static models cut texts at so many times their token limit.
    pub fn median_token_chars(&self) -> usize {
        let mut lengths: Vec<usize> = match &self.pipeline {
            Pipeline::Bert(bert) => bert.vocabulary().tokens().map(|t| t.chars().count()).collect(),
            Pipeline::General(general) => general.vocabulary().keys().map(|t| t.chars().count()).collect(),
        };
        lengths.sort_unstable();
        match lengths.len() {
            0 => 0,
            n if n % 2 == 1 => lengths[n / 2],
            n => (lengths[n / 2 - 1] + lengths[n / 2]) / 2,
        }
    }

    fn prefix(&self) -> &[u32] {
        match &self.pipeline {
            _ if !self.options.special_tokens => &[],
            Pipeline::Bert(bert) => bert.prefix(),
            Pipeline::General(general) => general.prefix(),
        }
    }

    fn suffix(&self) -> &[u32] {
        match &self.pipeline {
            _ if !self.options.special_tokens => &[],
            Pipeline::Bert(bert) => bert.suffix(),
            Pipeline::General(general) => general.suffix(),
        }
    }

    fn specials(&self) -> usize {
        self.prefix().len() + self.suffix().len()
    }

    fn encode_to(
        &self,
        text: &str,
        prompt: &str,
        lead: &[u32],
        limit: Option<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<bool> {
        let joined: Cow<'_, str> = if prompt.is_empty() { text.into() } else { [prompt, text].concat().into() };
        let (text, capped) = self.cap(&joined);
        let around = self.specials() + lead.len();
        let room = limit.map_or(usize::MAX, |limit| limit - around);
        // Only a cut on the right can leave the rest of the text unread; one token too many tells that there is a cut.
        let enough = if self.options.truncation == Truncation::Right { room.saturating_add(1) } else { usize::MAX };
        ids.extend_from_slice(self.prefix());
        ids.extend_from_slice(lead);
        let start = ids.len();
        self.content(text, enough, ids)?;
        let found = ids.len() - start;
        if found > room {
            match self.options.truncation {
                Truncation::Right => ids.truncate(start + room),
                Truncation::Left => drop(ids.drain(start..ids.len() - room)),
                Truncation::Error => {
                    let (all, limit) = (found + around, room + around);
                    let message = format!("the text has {all} tokens, the limit is {limit}");
                    return Err(Error::new(ErrorKind::TooLong, message)
                        .hint("shorten it, raise max-tokens where the model allows it, or allow truncation"));
                }
            }
        }
        ids.extend_from_slice(self.suffix());
        Ok(capped || found > room)
    }

    fn cap<'a>(&self, text: &'a str) -> (&'a str, bool) {
        // There are at most as many characters as bytes, so a short text needs no counting.
        match self.options.char_cap {
            Some(cap) if text.len() > cap => match text.char_indices().nth(cap) {
                Some((end, _)) => (&text[..end], true),
                None => (text, false),
            },
            _ => (text, false),
        }
    }

    /// Appends the ids of `text` without special tokens; may stop after `enough`.
    fn content(&self, text: &str, enough: usize, ids: &mut Vec<u32>) -> Result<()> {
        let dropped = if self.options.drop_unknown { self.unknown() } else { None };
        match &self.pipeline {
            Pipeline::Bert(bert) => bert.content(text, enough, dropped, ids),
            Pipeline::General(general) => general.content(text, dropped, ids)?,
        }
        Ok(())
    }
}
