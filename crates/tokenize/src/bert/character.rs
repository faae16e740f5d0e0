//! What BERT's normalisation asks of a character.

use std::sync::OnceLock;
use unicode_categories::UnicodeCategories;

pub(crate) const REMOVED: u8 = 1;
pub(crate) const SPACE: u8 = 2;
pub(crate) const PUNCTUATION: u8 = 4;
pub(crate) const MARK: u8 = 8;
pub(crate) const IDEOGRAPH: u8 = 16;

/// The properties of `c`, a sum of the constants above. `SPACE` is meant before cleaning: the line separators that are
/// control characters count, other control characters do not.
///
/// The tables of categories are searched a dozen times a character, about 100 ns; so the answers for the Basic Multilingual
/// Plane are kept, 256 characters at a time, once a process.
pub(crate) fn class(c: char) -> u8 {
    static PAGES: [OnceLock<Box<[u8; 256]>>; 256] = [const { OnceLock::new() }; 256];
    let code = c as usize;
    match PAGES.get(code >> 8) {
        Some(page) => {
            let page = page.get_or_init(|| {
                let mut classes = Box::new([0; 256]);
                for (low, class) in classes.iter_mut().enumerate() {
                    *class = char::from_u32((code & !255 | low) as u32).map_or(0, compute);
                }
                classes
            });
            page[code & 255]
        }
        None => compute(c),
    }
}

fn compute(c: char) -> u8 {
    let line = matches!(c, '\t' | '\n' | '\r');
    let mut class = 0;
    if c == '\0' || c == '\u{fffd}' || (!line && c.is_other()) {
        class |= REMOVED;
    }
    if line || c.is_whitespace() {
        class |= SPACE;
    }
    if c.is_ascii_punctuation() || c.is_punctuation() {
        class |= PUNCTUATION;
    }
    if c.is_mark_nonspacing() {
        class |= MARK;
    }
    if is_ideograph(c) {
        class |= IDEOGRAPH;
    }
    class
}

/// The CJK ideographs that BERT makes words of their own. The blocks are those of the original implementation, among them one
/// start (2B920 rather than 2B820) that later blocks of Unicode do not share.
fn is_ideograph(c: char) -> bool {
    matches!(
        u32::from(c),
        0x3400..=0x4dbf
            | 0x4e00..=0x9fff
            | 0xf900..=0xfaff
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0x2f800..=0x2fa1f
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_answers_are_the_computed_ones() {
        for code in
            (0..0x11_0000).filter_map(char::from_u32).filter(|c| (*c as u32) < 0x3000 || (*c as u32).is_multiple_of(97))
        {
            assert_eq!(class(code), compute(code), "{code:?}");
        }
        assert_eq!((class('\u{b}') & REMOVED, class('\t'), class('$')), (REMOVED, SPACE, PUNCTUATION));
    }
}
