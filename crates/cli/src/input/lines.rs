//! Text files: every line is a text.

use super::{Bytes, Fault, Id, Record, Source, to_text};
use anyhow::anyhow;
use std::io::{BufRead, Read};

/// The longest line that is taken. No model reads so much of one text, and a file without line ends would fill the memory.
const LONGEST: u64 = 64 << 20;

/// Lines of a file, with their numbers.
pub(super) struct Lines {
    reader: Bytes,
    /// How messages call the file.
    pub(super) name: String,
    /// The number of the line read last, from 1.
    pub(super) number: u64,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(reader: Bytes, name: String) -> Self {
        Self { reader, name, number: 0, line: Vec::new() }
    }

    /// The next line without its end; nothing at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Fault> {
        self.line.clear();
        let n = (&mut self.reader)
            .take(LONGEST + 1)
            .read_until(b'\n', &mut self.line)
            .map_err(|e| Fault::File(anyhow!("cannot read {}: {e}", self.name)))?;
        if n == 0 {
            return Ok(None);
        }
        self.number += 1;
        if n as u64 > LONGEST {
            return Err(Fault::File(anyhow!(
                "{}:{}: the line is longer than {} MiB: is this a text file with one text a line?",
                self.name,
                self.number,
                LONGEST >> 20
            )));
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
            if self.line.last() == Some(&b'\r') {
                self.line.pop();
            }
        }
        Ok(Some(&self.line))
    }
}

/// The lines of a file as texts.
pub(super) struct TextLines(Lines);

impl TextLines {
    pub(super) fn new(reader: Bytes, name: String) -> Self {
        Self(Lines::new(reader, name))
    }
}

impl Source for TextLines {
    fn next(&mut self, repairs: &mut u64) -> Result<Option<Record>, Fault> {
        let Some(line) = self.0.next()? else { return Ok(None) };
        let text = to_text(line, repairs);
        Ok(Some(Record { id: Id::Row(0), text, line: self.0.number, place: None }))
    }
}
