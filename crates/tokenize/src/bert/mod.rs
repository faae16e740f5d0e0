//! The pipeline of BERT models in one pass: recognise special tokens, clean, split at whitespace and punctuation, look up pieces.
//!
//! Words are found and looked up one after the other, so a text that is cut on the right is read only as far as it counts.
//! The result is that of `BertNormalizer`, `BertPreTokenizer` and `WordPiece` of the `tokenizers` crate, id by id.

mod character;
mod file;
mod spans;
mod vocabulary;
mod words;

use crate::pair::PairTemplate;
use aho_corasick::AhoCorasick;
use std::ops::ControlFlow;
pub(crate) use vocabulary::Vocabulary;

/// How a `vocab.txt` is used; the fields are those of `tokenizer_config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BertOptions {
    /// Lower-cases every word (`do_lower_case`).
    pub lower_case: bool,
    /// Removes accents; `None` does so where words are lower-cased.
    pub strip_accents: Option<bool>,
    /// Makes every CJK ideograph a word of its own (`tokenize_chinese_chars`).
    pub split_ideographs: bool,
}

impl Default for BertOptions {
    fn default() -> Self {
        Self { lower_case: true, strip_accents: None, split_ideographs: true }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Bert {
    vocabulary: Vocabulary,
    normal: words::Normal,
    /// Words of more characters are unknown.
    max_word_chars: usize,
    unknown: u32,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    pair: Option<PairTemplate>,
    /// Tokens recognised in the raw text, longest first at each place, and their ids.
    added: Option<(AhoCorasick, Vec<u32>)>,
    special: Vec<u32>,
    decoder: Option<Decoder>,
}

/// How pieces become text again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decoder {
    prefix: String,
    /// Removes the spaces before punctuation and contractions.
    cleanup: bool,
}

/// Where ids go: they are appended until there are enough.
struct Sink<'a> {
    ids: &'a mut Vec<u32>,
    /// The length of `ids` at which reading stops.
    full: usize,
    dropped: Option<u32>,
}

impl Sink<'_> {
    fn push(&mut self, id: u32) {
        if Some(id) != self.dropped {
            self.ids.push(id);
        }
    }

    fn next(&self) -> ControlFlow<()> {
        if self.ids.len() >= self.full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Bert {
    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(crate) fn unknown(&self) -> u32 {
        self.unknown
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

    pub(crate) fn lower_case_first(&mut self) {
        self.normal.lower_case_first = true;
    }

    /// Appends the ids of `text` that are not `dropped`; stops soon after `enough` of them.
    pub(crate) fn content(&self, text: &str, enough: usize, dropped: Option<u32>, ids: &mut Vec<u32>) {
        let full = ids.len().saturating_add(enough);
        let mut sink = Sink { ids, full, dropped };
        let _ = self.spans(text, &mut sink);
    }

    /// Recognises added tokens and tokenises what lies between them.
    fn spans(&self, text: &str, sink: &mut Sink<'_>) -> ControlFlow<()> {
        let mut word = String::new();
        let mut done = 0;
        if let Some((search, tokens)) = &self.added {
            for found in search.find_iter(text) {
                self.span(&text[done..found.start()], &mut word, sink)?;
                sink.push(tokens[found.pattern().as_usize()]);
                sink.next()?;
                done = found.end();
            }
        }
        self.span(&text[done..], &mut word, sink)
    }

    fn span(&self, text: &str, word: &mut String, sink: &mut Sink<'_>) -> ControlFlow<()> {
        self.normal.words(text, word, &mut |word| {
            self.word(word, sink);
            sink.next()
        })
    }

    /// Greedy longest match; a word with a part that no piece matches is one unknown token.
    fn word(&self, word: &str, sink: &mut Sink<'_>) {
        if word.len() > self.max_word_chars && word.chars().count() > self.max_word_chars {
            return sink.push(self.unknown);
        }
        let start = sink.ids.len();
        let (mut at, mut inside) = (0, false);
        while at < word.len() {
            let Some((id, length)) = self.vocabulary.longest(&word[at..], inside) else {
                sink.ids.truncate(start);
                return sink.push(self.unknown);
            };
            sink.push(id);
            at += length;
            inside = true;
        }
    }

    pub(crate) fn decode(&self, ids: &[u32], special: bool) -> String {
        let tokens =
            ids.iter().filter(|id| special || !self.special.contains(id)).filter_map(|&id| self.vocabulary.token(id));
        let Some(decoder) = &self.decoder else {
            return tokens.collect::<Vec<_>>().join(" ");
        };
        let mut text = String::new();
        for (i, token) in tokens.enumerate() {
            let piece = match token.strip_prefix(&decoder.prefix) {
                _ if i == 0 => token.to_owned(),
                Some(rest) => rest.to_owned(),
                None => format!(" {token}"),
            };
            text.push_str(&if decoder.cleanup { tidy(piece) } else { piece });
        }
        text
    }
}

/// The replacements of the WordPiece decoder, in its order.
fn tidy(mut piece: String) -> String {
    const RULES: [(&str, &str); 11] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    for (from, to) in RULES {
        if piece.contains(from) {
            piece = piece.replace(from, to);
        }
    }
    piece
}
