//! For a reader at a terminal: the first components, the number of all of them, and the text.

use super::{Encode, Layout, Rows, Vectors};
use anyhow::Result;
use std::io::Write;

/// Components that are shown.
const SHOWN: usize = 4;
/// Characters of the text that are shown.
const TEXT: usize = 80;

/// One line a row.
pub(super) struct Short(Layout);

impl Short {
    pub(super) fn new(layout: Layout) -> Self {
        Self(layout)
    }
}

impl Encode for Short {
    fn rows(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        let width = self.0.width;
        for (i, record) in rows.records.iter().enumerate() {
            let row = (rows.first + i) * width;
            let shown = row..row + width.min(SHOWN);
            let numbers: Vec<String> = match rows.vectors {
                Vectors::F32(v) => v[shown].iter().map(|x| format!("{x:7.4}")).collect(),
                Vectors::F16(v) => v[shown].iter().map(|x| format!("{:7.4}", x.to_f32())).collect(),
                Vectors::I8(v) => v[shown].iter().map(|x| format!("{x:4}")).collect(),
                Vectors::U8(v) => v[shown].iter().map(|x| format!("{x:3}")).collect(),
                Vectors::Members(_) => unreachable!("members of objects are written as JSON lines"),
            };
            let more = if width > SHOWN { ", …" } else { "" };
            writeln!(out, "[{}{more}] {width} dims  {}", numbers.join(", "), one_line(&record.text, TEXT))?;
        }
        Ok(())
    }

    fn end(&mut self, _rows: u64, _out: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

/// The start of a text as one line of at most `most` characters, without control characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        line.pop();
        line.push('…');
    }
    line
}
