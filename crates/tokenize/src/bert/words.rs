//! Text to normalised words.

use super::character::{IDEOGRAPH, MARK, PUNCTUATION, REMOVED, SPACE, class};
use std::ops::ControlFlow::{self, Continue};
use unicode_normalization_alignments::UnicodeNormalization as _;

/// The steps of the normalisation that a configuration can choose. Cleaning (control characters out, whitespace to spaces) is
/// always done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Normal {
    pub lower_case_first: bool,
    pub split_ideographs: bool,
    pub strip_accents: bool,
    pub lower_case: bool,
}

/// Takes words as they are found.
type Found<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;

impl Normal {
    /// Calls `found` with each word of `text`, in order, until it breaks. `word` is a buffer.
    ///
    /// The text is taken in runs between ASCII whitespace. Decomposition never looks across a space, so what a run gives does
    /// not depend on its neighbours; and in ASCII every step is a table look-up.
    pub(crate) fn words(self, text: &str, word: &mut String, found: &mut Found<'_>) -> ControlFlow<()> {
        for run in text.split([' ', '\t', '\n', '\r']).filter(|run| !run.is_empty()) {
            if run.is_ascii() {
                self.ascii(run, word, found)?;
            } else {
                self.unicode(run, word, found)?;
            }
        }
        Continue(())
    }

    fn ascii(self, run: &str, word: &mut String, found: &mut Found<'_>) -> ControlFlow<()> {
        let lower = self.lower_case || self.lower_case_first;
        if run.bytes().all(|b| b.is_ascii_alphanumeric()) {
            if !lower || run.bytes().all(|b| !b.is_ascii_uppercase()) {
                return found(run);
            }
            word.clear();
            word.push_str(run);
            word.make_ascii_lowercase();
            return found(word);
        }
        word.clear();
        for (at, b) in run.bytes().enumerate() {
            if b.is_ascii_punctuation() {
                flush(word, found)?;
                found(&run[at..=at])?;
            } else if !b.is_ascii_control() {
                word.push(char::from(if lower { b.to_ascii_lowercase() } else { b }));
            }
        }
        flush(word, found)
    }

    fn unicode(self, run: &str, word: &mut String, found: &mut Found<'_>) -> ControlFlow<()> {
        if self.lower_case_first {
            self.cleaned(run.chars().flat_map(char::to_lowercase), word, found)
        } else {
            self.cleaned(run.chars(), word, found)
        }
    }

    fn cleaned(self, chars: impl Iterator<Item = char>, word: &mut String, found: &mut Found<'_>) -> ControlFlow<()> {
        let spaced = chars.filter(|&c| class(c) & REMOVED == 0).flat_map(|c| {
            let class = class(c);
            let c = if class & SPACE != 0 { ' ' } else { c };
            let alone = (self.split_ideographs && class & IDEOGRAPH != 0).then_some(' ');
            [alone, Some(c), alone].into_iter().flatten()
        });
        if self.strip_accents {
            self.split(spaced.nfd().map(|(c, _)| c).filter(|&c| class(c) & MARK == 0), word, found)
        } else {
            self.split(spaced, word, found)
        }
    }

    fn split(self, chars: impl Iterator<Item = char>, word: &mut String, found: &mut Found<'_>) -> ControlFlow<()> {
        word.clear();
        for c in chars {
            if self.lower_case {
                for c in c.to_lowercase() {
                    push(c, word, found)?;
                }
            } else {
                push(c, word, found)?;
            }
        }
        flush(word, found)
    }
}

fn push(c: char, word: &mut String, found: &mut Found<'_>) -> ControlFlow<()> {
    match class(c) {
        class if class & SPACE != 0 => flush(word, found),
        class if class & PUNCTUATION != 0 => {
            flush(word, found)?;
            found(c.encode_utf8(&mut [0; 4]))
        }
        _ => {
            word.push(c);
            Continue(())
        }
    }
}

fn flush(word: &mut String, found: &mut Found<'_>) -> ControlFlow<()> {
    if word.is_empty() {
        return Continue(());
    }
    let flow = found(word);
    word.clear();
    flow
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNCASED: Normal =
        Normal { lower_case_first: false, split_ideographs: true, strip_accents: true, lower_case: true };

    fn words(normal: Normal, text: &str) -> Vec<String> {
        let mut all = vec![];
        let _ = normal.words(text, &mut String::new(), &mut |w| {
            all.push(w.to_owned());
            Continue(())
        });
        all
    }

    #[test]
    fn words_are_cleaned_and_split() {
        assert_eq!(words(UNCASED, "  Hé\0llo,World \u{b}x\u{a0}y  "), ["hello", ",", "world", "x", "y"]);
        assert_eq!(words(UNCASED, "ab中c ¿Que?"), ["ab", "中", "c", "¿", "que", "?"]);
        let cased = Normal { strip_accents: false, lower_case: false, ..UNCASED };
        assert_eq!(words(cased, "Hé LO"), ["Hé", "LO"]);
        let first = Normal { lower_case_first: true, ..cased };
        assert_eq!(words(first, "HÉ LO"), ["hé", "lo"]);
        assert!(words(UNCASED, "\0 \u{301} \u{200b}").is_empty());
    }

    #[test]
    fn reading_stops_where_it_is_told_to() {
        let mut seen = 0;
        let text = "é.".repeat(1000);
        let flow = UNCASED.words(&text, &mut String::new(), &mut |_| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { Continue(()) }
        });
        assert_eq!((flow, seen), (ControlFlow::Break(()), 3));
    }
}
