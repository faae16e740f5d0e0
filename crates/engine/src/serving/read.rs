//! From what a caller sends to a sequence.

use super::{
    Body, ServedModel,
    sequence::{Content, Sequence, Wanted, Way},
};
use crate::{Prompt, Truncation, open::Model};
use embral_tokenize::Encoded;
use embral_types::{Error, ErrorKind, Result};

/// One text, as it comes.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A text.
    Text(&'a str),
    /// Token ids of the model, special tokens included where they are wanted: they are computed as they are. Beyond the model's limit they
    /// are cut, or refused, as a text is.
    Ids(&'a [u32]),
    /// A query and a document, or a premise and a hypothesis.
    Pair(&'a str, &'a str),
}

/// How a text is read.
#[derive(Clone, Debug, Default)]
pub struct Reading<'a> {
    /// What is put before the text.
    pub prompt: Prompt<'a>,
    /// What happens where it is too long; `None` does as the model was opened.
    pub truncation: Option<Truncation>,
    /// What is wanted of it.
    pub wanted: Wanted,
}

impl ServedModel {
    /// Reads one input. It takes as long as tokenising: some 10 µs for a sentence.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the model does not have what is wanted or does not take such an input,
    /// [`ErrorKind::TooLong`] where it is too long and not to be cut, [`ErrorKind::InvalidInput`] and [`ErrorKind::NotFound`] (a prompt)
    /// where the wishes cannot be met.
    pub fn read(&self, input: Input<'_>, reading: &Reading<'_>) -> Result<Sequence> {
        let Reading { prompt, ref wanted, .. } = *reading;
        let truncation = reading.truncation.unwrap_or(self.truncation);
        let pairs = matches!(input, Input::Pair(..));
        self.check(wanted, pairs)?;
        let mut way = Way { sparse: wanted.sparse, tokens: wanted.multi_vector, rows: wanted.rows, ..Way::default() };
        if wanted.vector && !matches!(self.body, Body::Reranker(_) | Body::Classifier(_) | Body::MultiVector(_)) {
            way.form = Some(self.form(wanted)?);
        }
        match &self.body {
            Body::Embedder(embedder) => {
                let told = embedder.told(prompt)?;
                let include_prompt = match &embedder.model {
                    Model::Local(opened) => opened.include_prompt,
                    #[cfg(feature = "remote")]
                    Model::Remote(_) => return self.elsewhere(input, reading, way),
                };
                let encoded = self.encode(input, told.text, truncation)?;
                if !include_prompt {
                    way.skip = encoded.prompt_tokens;
                }
                #[cfg(feature = "vector-cache")]
                if let (Input::Text(text), Some(cache)) = (input, &embedder.cache)
                    && way.form == Some(embedder.form())
                    && !way.rows
                    && (truncation == self.truncation || !encoded.truncated)
                {
                    let key = cache.key(told, text);
                    let known = cache.get(&[key]).pop().flatten().filter(|row| row.len() == embedder.dimensions());
                    let known = known.map(Into::into);
                    return Ok(Sequence { key: Some(key), known, ..Sequence::new(Content::Tokens(encoded), way) });
                }
                Ok(Sequence::new(Content::Tokens(encoded), way))
            }
            #[cfg(feature = "remote")]
            Body::Pool(pool) => {
                pool.check_prompt(prompt)?;
                self.elsewhere(input, reading, way)
            }
            Body::Reranker(reranker) => {
                let prompt = reranker.info().prompt_text(prompt)?;
                let Input::Pair(query, document) = input else {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "expected a pair of a query and a document: the model is a reranker",
                    ));
                };
                let encoded = reranker.encode_by(self.tokenizer(truncation)?, query, document, prompt)?;
                Ok(Sequence::new(Content::Tokens(reranker.logits.with_segments(encoded)?), way))
            }
            Body::Classifier(classifier) => {
                let encoded = match input {
                    Input::Pair(first, second) => self.tokenizer(truncation)?.encode_pair(first, second)?,
                    other => self.encode(other, classifier.info().prompt_text(prompt)?, truncation)?,
                };
                Ok(Sequence::new(Content::Tokens(classifier.logits.with_segments(encoded)?), way))
            }
            Body::MultiVector(model) => {
                let Input::Text(text) = input else {
                    return Err(Error::new(ErrorKind::Unsupported, "expected a text: the model reads no token ids"));
                };
                // Whatever its prompts are called, the model reads by role.
                way.query = match prompt {
                    Prompt::Query => true,
                    Prompt::Name(name) => model.is_query(name),
                    Prompt::Text(_) => {
                        return Err(Error::new(
                            ErrorKind::InvalidInput,
                            "the model reads queries and documents by their own rules, and takes no other prompt",
                        ));
                    }
                    Prompt::Default | Prompt::None | Prompt::Document => false,
                };
                let encoded = model.encode_by(self.tokenizer(truncation)?, text, way.query)?;
                Ok(Sequence::new(Content::Tokens(encoded), way))
            }
            Body::Tokens(heads) => {
                let encoded = self.encode(input, heads.model.info.prompt_text(prompt)?, truncation)?;
                if !heads.model.include_prompt {
                    way.skip = encoded.prompt_tokens;
                }
                Ok(Sequence::new(Content::Tokens(encoded), way))
            }
        }
    }

    /// A text for a model behind a server.
    #[cfg(feature = "remote")]
    fn elsewhere(&self, input: Input<'_>, reading: &Reading<'_>, way: Way) -> Result<Sequence> {
        let unsupported = |message: &str| Err(Error::new(ErrorKind::Unsupported, message));
        let Input::Text(text) = input else {
            return unsupported("the model is behind a server, which is given texts, not token ids");
        };
        if reading.truncation.is_some_and(|asked| asked == Truncation::Error && asked != self.truncation) {
            return unsupported("the model is behind a server, and whether a text is too long is known there alone");
        }
        Ok(Sequence::new(Content::Text { text: text.to_owned(), prompt: reading.prompt.into() }, way))
    }

    /// A text or ids as tokens.
    fn encode(&self, input: Input<'_>, prompt: &str, truncation: Truncation) -> Result<Encoded> {
        match input {
            Input::Text(text) => self.tokenizer(truncation)?.encode(text, prompt),
            Input::Ids(ids) => {
                let limit = self.info().max_tokens;
                if ids.is_empty() {
                    return Err(Error::new(ErrorKind::InvalidInput, "expected token ids, found none"));
                }
                let vocabulary = self.tokenizer(truncation)?.vocab_size();
                if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                    let message = format!("token id {id} is none of the model's, which are below {vocabulary}");
                    return Err(Error::new(ErrorKind::InvalidInput, message)
                        .hint("token ids are those of this model's tokenizer; send the text itself"));
                }
                let over = ids.len().saturating_sub(limit);
                let kept = match truncation {
                    _ if over == 0 => ids,
                    Truncation::Right => &ids[..limit],
                    Truncation::Left => &ids[over..],
                    Truncation::Error => {
                        let message = format!("the text has {} tokens, the limit is {limit}", ids.len());
                        return Err(Error::new(ErrorKind::TooLong, message).hint("shorten it, or allow truncation"));
                    }
                };
                Ok(Encoded { ids: kept.to_vec(), truncated: over > 0, ..Encoded::default() })
            }
            Input::Pair(..) => Err(Error::new(ErrorKind::Unsupported, "expected one text, found a pair")),
        }
    }

    /// Fails where the model does not have what is wanted.
    fn check(&self, wanted: &Wanted, pairs: bool) -> Result<()> {
        let offers = self.offers();
        let scores = offers.scores || offers.labels;
        let lacks = |what: &str| {
            let message = format!("{} gives no {what}: it is a model for {}", self.info().name, self.given());
            Err(Error::new(ErrorKind::Unsupported, message))
        };
        match wanted {
            _ if pairs && !scores => lacks("scores of pairs"),
            Wanted { vector: true, .. } if !offers.dense && !scores && !offers.multi_vector && !offers.sparse => {
                lacks("vectors")
            }
            Wanted { vector: true, sparse: false, multi_vector: false, rows: false, .. }
                if !offers.dense && !scores =>
            {
                lacks("vector of a text")
            }
            Wanted { sparse: true, .. } if !offers.sparse => lacks("sparse vectors"),
            Wanted { multi_vector: true, .. } if !offers.multi_vector => lacks("vectors of tokens"),
            Wanted { rows: true, .. } if !offers.rows => lacks("rows of tokens"),
            _ => Ok(()),
        }
    }

    /// What it gives, in words.
    fn given(&self) -> &'static str {
        match self.task() {
            "embedding" => "embeddings",
            "reranker" => "reranking",
            "classifier" => "classification",
            "sparse" => "sparse embeddings",
            _ => "vectors of tokens",
        }
    }
}

impl Sequence {
    pub(super) fn new(content: Content, way: Way) -> Self {
        Self {
            content,
            way,
            #[cfg(feature = "vector-cache")]
            key: None,
            known: None,
        }
    }
}
