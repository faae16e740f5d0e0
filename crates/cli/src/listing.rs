//! Texts listed on standard output with what was found of each: for reading, as JSON lines, or tab-separated.

use crate::{
    input::{Id, Record},
    output::one_line,
};
use anyhow::Result;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Characters that a text has at least, however narrow the terminal.
const LEAST_ROOM: usize = 20;

/// What was found of a text. As JSON it is an object, whose members stand before the text.
pub(crate) trait Found: Serialize {
    /// What stands before the number or id and the text for reading.
    fn short(&self) -> String;

    /// What stands before the number or id and the text in each of its tab-separated lines.
    fn cells(&self) -> Vec<String>;
}

/// A listing as it is made.
pub(crate) struct Listing {
    form: Form,
    out: String,
}

enum Form {
    /// For reading, as wide as the terminal where there is one.
    Short(Option<usize>),
    Json,
    Tsv,
}

#[derive(Serialize)]
struct Line<'a, F> {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<serde_json::Value>,
    #[serde(flatten)]
    found: &'a F,
    text: &'a str,
}

impl Listing {
    /// A listing as the flags `--json` and `--tsv` say.
    pub(crate) fn new(json: bool, tsv: bool) -> Self {
        let form = match (json, tsv) {
            (true, _) => Form::Json,
            (_, true) => Form::Tsv,
            _ => Form::Short(terminal_width()),
        };
        Self { form, out: String::new() }
    }

    /// Adds the text numbered `index`.
    pub(crate) fn add(&mut self, index: u64, record: &Record, found: &impl Found) -> Result<()> {
        match self.form {
            Form::Json => {
                let line = Line { index, id: id_json(&record.id)?, found, text: &record.text };
                self.out.push_str(&serde_json::to_string(&line)?);
                self.out.push('\n');
            }
            Form::Tsv => {
                let (word, text) = (cell(&id_word(&record.id, index)), cell(&record.text));
                for before in found.cells() {
                    self.out.push_str(&format!("{before}\t{word}\t{text}\n"));
                }
            }
            Form::Short(width) => {
                let start = format!("{}  {}  ", found.short(), id_word(&record.id, index));
                self.out.push_str(&row(start, &record.text, width));
            }
        }
        Ok(())
    }

    /// Prints what was added since the last time.
    pub(crate) fn print(&mut self) -> Result<()> {
        std::io::stdout().lock().write_all(self.out.as_bytes())?;
        self.out.clear();
        Ok(())
    }
}

/// The columns of the terminal; none where standard output is no terminal.
pub(crate) fn terminal_width() -> Option<usize> {
    std::io::stdout().is_terminal().then(|| usize::from(console::Term::stdout().size().1))
}

/// `start`, and as much of the text as fits beside it into `width` columns.
pub(crate) fn row(start: String, text: &str, width: Option<usize>) -> String {
    let room = width.map_or(usize::MAX, |w| w.saturating_sub(start.chars().count()).max(LEAST_ROOM));
    start + &one_line(text, room) + "\n"
}

/// An id as JSON; none where the input gives none.
pub(crate) fn id_json(id: &Id) -> Result<Option<serde_json::Value>> {
    Ok(match id {
        Id::Row(_) => None,
        Id::Int(n) => Some(serde_json::json!(n)),
        Id::Text(s) => Some(serde_json::json!(s)),
        Id::Json(s) => Some(serde_json::from_str(s)?),
    })
}

/// An id as a word, or the row number.
fn id_word(id: &Id, row: u64) -> String {
    match id {
        Id::Row(_) => row.to_string(),
        Id::Int(n) => n.to_string(),
        Id::Text(s) | Id::Json(s) => s.clone(),
    }
}

/// A text as one cell of a table: tabs and line ends become spaces.
pub(crate) fn cell(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Score {
        score: f32,
    }

    impl Found for Score {
        fn short(&self) -> String {
            format!("{:.1}", self.score)
        }

        fn cells(&self) -> Vec<String> {
            vec![self.score.to_string(); 2]
        }
    }

    fn record(id: Id) -> Record {
        Record { id, text: "a\tb\nc".into(), line: 1, place: None }
    }

    #[test]
    fn the_forms_say_the_same() {
        let of = |form, id| {
            let mut listing = Listing { form, out: String::new() };
            listing.add(7, &record(id), &Score { score: 0.5 }).unwrap();
            listing.out
        };
        assert_eq!(of(Form::Json, Id::Row(3)), "{\"index\":7,\"score\":0.5,\"text\":\"a\\tb\\nc\"}\n");
        assert_eq!(of(Form::Json, Id::Int(9)), "{\"index\":7,\"id\":9,\"score\":0.5,\"text\":\"a\\tb\\nc\"}\n");
        assert_eq!(of(Form::Tsv, Id::Text("x\ty".into())), "0.5\tx y\ta b c\n0.5\tx y\ta b c\n");
        assert_eq!(of(Form::Short(None), Id::Row(3)), "0.5  7  a b c\n");
    }

    #[test]
    fn a_narrow_terminal_leaves_room_for_some_of_the_text() {
        let text = "x".repeat(99);
        assert_eq!(row("12345 ".into(), &text, Some(8)).chars().count(), 6 + LEAST_ROOM + 1);
        assert_eq!(row("12345 ".into(), &text, Some(50)).chars().count(), 51);
        assert_eq!(row(String::new(), &text, None), text + "\n");
    }
}
