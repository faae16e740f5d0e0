//! The same pipeline with the place of every character kept: slower, and only asked for where a text is cut into chunks.

use super::{Bert, Sink};
use crate::{
    bert::character::{IDEOGRAPH, MARK, PUNCTUATION, REMOVED, SPACE, class},
    bert::words::Normal,
    span::Span,
};
use std::{cell::RefCell, ops::Range};
use unicode_normalization_alignments::UnicodeNormalization as _;

/// A character of the normalised text and the bytes of the text it came from.
type Placed = (char, Range<usize>);

impl Bert {
    /// The tokens of `text` that are not `dropped`, without special tokens.
    pub(crate) fn spans_of(&self, text: &str, dropped: Option<u32>) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut done = 0;
        if let Some((search, tokens)) = &self.added {
            for found in search.find_iter(text) {
                self.placed(&text[done..found.start()], done, &mut spans);
                spans.push(Span { id: tokens[found.pattern().as_usize()], bytes: found.start()..found.end() });
                done = found.end();
            }
        }
        self.placed(&text[done..], done, &mut spans);
        spans.retain(|span| Some(span.id) != dropped);
        spans
    }

    /// Appends the tokens of a text that begins at byte `base`.
    fn placed(&self, text: &str, base: usize, spans: &mut Vec<Span>) {
        let mut word: Vec<Placed> = Vec::new();
        for (c, bytes) in self.normal.placed(text) {
            let bytes = base + bytes.start..base + bytes.end;
            let class = class(c);
            if class & (SPACE | PUNCTUATION) == 0 {
                word.push((c, bytes));
                continue;
            }
            self.placed_word(&mut word, spans);
            if class & PUNCTUATION != 0 {
                word.push((c, bytes));
                self.placed_word(&mut word, spans);
            }
        }
        self.placed_word(&mut word, spans);
    }

    fn placed_word(&self, word: &mut Vec<Placed>, spans: &mut Vec<Span>) {
        let (Some(first), Some(last)) = (word.first(), word.last()) else { return };
        let whole = first.1.start..last.1.end;
        let text: String = word.iter().map(|(c, _)| *c).collect();
        let mut ids = Vec::new();
        self.word(&text, &mut Sink { ids: &mut ids, full: usize::MAX, dropped: None });
        if let [id] = ids[..] {
            spans.push(Span { id, bytes: whole });
        } else {
            let mut chars = word.iter();
            let mut left = &text[..];
            for (piece, id) in ids.into_iter().enumerate() {
                let (_, length) = self.vocabulary.longest(left, piece > 0).expect("the piece was found before");
                let count = left[..length].chars().count();
                left = &left[length..];
                let own: Vec<&Placed> = chars.by_ref().take(count).collect();
                let (first, last) = (own.first().expect("a piece has a character"), own[own.len() - 1]);
                spans.push(Span { id, bytes: first.1.start..last.1.end });
            }
        }
        word.clear();
    }
}

impl Normal {
    /// The normalised characters, whitespace as it is, with their bytes. A character that became several stands several times; of
    /// those that canonical ordering moved, the places are in the order of the text.
    fn placed(self, text: &str) -> Vec<Placed> {
        let mut chars: Vec<Placed> = text.char_indices().map(|(at, c)| (c, at..at + c.len_utf8())).collect();
        if self.lower_case_first {
            chars = lower(chars);
        }
        chars.retain(|(c, _)| class(*c) & REMOVED == 0);
        if self.split_ideographs {
            let apart = |(c, bytes): Placed| {
                let space = (class(c) & IDEOGRAPH != 0).then(|| (' ', bytes.clone()));
                [space.clone(), Some((c, bytes)), space].into_iter().flatten()
            };
            chars = chars.into_iter().flat_map(apart).collect();
        }
        if self.strip_accents {
            chars = decomposed(&chars);
            chars.retain(|(c, _)| class(*c) & MARK == 0);
        }
        if self.lower_case { lower(chars) } else { chars }
    }
}

fn lower(chars: Vec<Placed>) -> Vec<Placed> {
    chars.into_iter().flat_map(|(c, bytes)| c.to_lowercase().map(move |c| (c, bytes.clone()))).collect()
}

fn decomposed(chars: &[Placed]) -> Vec<Placed> {
    // The iterator says with each character whether it is a further one of the same source, and no more.
    let at = RefCell::new(0usize);
    let next = |(c, change): (char, isize)| {
        let mut at = at.borrow_mut();
        *at += usize::from(change <= 0);
        (c, chars[at.saturating_sub(1).min(chars.len() - 1)].1.clone())
    };
    chars.iter().map(|(c, _)| *c).nfd().map(next).collect()
}
