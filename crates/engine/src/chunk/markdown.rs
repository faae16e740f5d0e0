//! Where a long Markdown document may be taken apart, so that it need not be parsed whole.

/// The most bytes that are parsed together, unless a chunk may have as many. A document below it is parsed whole; above it the time of
/// the splitter, which looks at all that is left for each chunk where there is no structure, would grow with the square of the length.
pub(super) const MOST_BYTES: usize = 128 << 10;

/// Where the structure of a text ends, or breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Bytes before it.
    pub(super) bytes: usize,
    /// Whether what is behind it is parsed alike with and without what is before it.
    pub(super) clean: bool,
}

/// The end of a first stretch of at most `most` bytes of `text`: before the last heading of its second half that is in no fenced
/// code, else behind the last blank line there that no indented line follows, else within a paragraph or a block of code.
pub(super) fn stretch(text: &str, most: usize) -> End {
    if text.len() <= most {
        return End { bytes: text.len(), clean: true };
    }
    let (mut heading, mut blank) = (None, None);
    let mut fence = None;
    let mut start = 0;
    let mut after_blank = false;
    for line in text[..text.floor_char_boundary(most)].split_inclusive('\n') {
        if start >= most / 2 && fence.is_none() {
            if is_heading(line) {
                heading = Some(start);
            } else if after_blank && !line.trim().is_empty() && !line.starts_with([' ', '\t']) {
                blank = Some(start);
            }
        }
        fence = match (fence, marker(line)) {
            (None, Some(opened)) => Some(opened),
            // A block is closed by as many of the character that opened it, or more, and nothing behind them.
            (Some(Fence { mark, count }), Some(end))
                if end.mark == mark && end.count >= count && line.trim().bytes().all(|b| b == mark) =>
            {
                None
            }
            (open, _) => open,
        };
        after_blank = line.trim().is_empty();
        start += line.len();
    }
    match heading.or(blank) {
        Some(bytes) => End { bytes, clean: true },
        None => End { bytes: text.floor_char_boundary(most), clean: false },
    }
}

/// The three or more backticks or tildes that a line begins with.
#[derive(Clone, Copy)]
struct Fence {
    mark: u8,
    count: usize,
}

fn marker(line: &str) -> Option<Fence> {
    let line = unindented(line)?;
    let mark = *line.as_bytes().first().filter(|b| matches!(b, b'`' | b'~'))?;
    let count = line.bytes().take_while(|&b| b == mark).count();
    (count >= 3).then_some(Fence { mark, count })
}

/// Whether a line is a heading of one to six `#`.
fn is_heading(line: &str) -> bool {
    let Some(line) = unindented(line) else { return false };
    let rest = line.trim_start_matches('#');
    (1..=6).contains(&(line.len() - rest.len())) && (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// A line without up to three spaces; with more it is code.
fn unindented(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches(' ');
    (line.len() - rest.len() <= 3).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// So a document of `n` bytes is parsed in at most `2 n / most + 1` stretches of at most `most` bytes.
        #[test]
        fn stretches_are_short_and_few(
            lines in prop::collection::vec("(#{0,7} |```|~~~~|- | {0,5})?[a-zé ]{0,40}\n{1,3}", 0..60),
            most in 16usize..300,
        ) {
            let text = lines.concat();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let End { bytes, clean } = stretch(rest, most);
                prop_assert!(bytes <= most && (bytes + 3 >= most / 2 || bytes == rest.len()));
                prop_assert!(clean || bytes + 3 >= most);
                rest = &rest[bytes..];
                prop_assert!(!clean || rest.is_empty() || rest.trim_start_matches(' ').starts_with(|c: char| !c.is_whitespace()));
            }
        }
    }

    #[test]
    fn a_stretch_ends_before_a_heading_else_behind_a_blank_line() {
        let end = |text: &str, most| stretch(text, most);
        let clean = |bytes| End { bytes, clean: true };
        assert_eq!(end("short", 9), clean(5));
        let text = "one two\n\nthree\n# Four\nfive\n\nsix seven eight";
        assert_eq!(end(text, 30), clean(text.find("# Four").unwrap()));
        let text = "one two three\n\nfour\nfive six seven eight nine";
        assert_eq!(end(text, 25), clean(text.find("four").unwrap()));
        assert_eq!(end("no end at all, é", 15), End { bytes: 15, clean: false });
        assert_eq!(end("no end at all, éé", 16), End { bytes: 15, clean: false }, "no character is cut");
        // Neither #word nor seven of them, nor one in code, nor a paragraph of a list item.
        let text = "a b c d e f\n#word\n####### x\n    # y\n\n  more\nz z z z z z z z z z z";
        assert!(!end(text, 50).clean);
    }

    #[test]
    fn code_between_fences_has_no_headings() {
        for (open, inside, close) in [("```sh", "# no heading", "```"), ("~~~~", "~~~\n\n# none\n```", "~~~~~")] {
            let text = format!("{open}\n{inside}\n\nx\n{close}\n# Yes\nand what follows it");
            let yes = text.find("# Yes").unwrap();
            assert_eq!(stretch(&text, text.len() - 1), End { bytes: yes, clean: true }, "{text:?}");
            let unclosed = format!("{open}\n{inside}\n\nx\nx\n# No\nand what follows it");
            assert!(!stretch(&unclosed, unclosed.len() - 1).clean, "{unclosed:?}");
        }
    }
}
