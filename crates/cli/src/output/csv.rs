//! CSV: `index` or `id`, the text where it is wanted, then the components as columns `e0`, `e1`, …, or one column
//! `embedding` of base64.

use super::{Encode, Layout, Rows, Vectors, integer, text};
use crate::input::{Id, IdType, Place};
use anyhow::Result;
use std::io::Write;

/// One line a row.
pub(super) struct Table(Layout);

impl Table {
    pub(super) fn new(layout: Layout) -> Self {
        Self(layout)
    }
}

impl Encode for Table {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(if self.0.ids { b"id" } else { b"index" });
        if self.0.chunks {
            out.extend_from_slice(b",chunk,start,end");
        }
        if self.0.text {
            out.extend_from_slice(b",text");
        }
        if self.0.base64 {
            out.extend_from_slice(b",embedding");
        } else {
            for i in 0..self.0.width {
                write!(out, ",e{i}")?;
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn rows(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        let width = self.0.width;
        let mut numbers = Vec::new();
        for (i, record) in rows.records.iter().enumerate() {
            match (&record.id, self.0.id_type) {
                (Id::Row(n), _) => write!(out, "{n}")?,
                (_, Some(IdType::Int32 | IdType::Int64)) => write!(out, "{}", integer(record)?)?,
                (id, _) => quoted(&text(id), out),
            }
            if let Some(Place { chunk, start, end, .. }) = &record.place {
                write!(out, ",{chunk},{start},{end}")?;
            }
            if self.0.text {
                out.push(b',');
                quoted(&record.text, out);
            }
            let row = (rows.first + i) * width;
            match rows.vectors {
                _ if self.0.base64 => {
                    out.push(b',');
                    rows.vectors.base64(row..row + width, out);
                }
                // JSON's shortest form that reads back as the same float, without the brackets.
                Vectors::F32(_) | Vectors::F16(_) => {
                    numbers.clear();
                    rows.vectors.json(row..row + width, &mut numbers)?;
                    out.push(b',');
                    out.extend_from_slice(&numbers[1..numbers.len() - 1]);
                }
                Vectors::I8(v) => v[row..row + width].iter().try_for_each(|x| write!(out, ",{x}"))?,
                Vectors::U8(v) => v[row..row + width].iter().try_for_each(|x| write!(out, ",{x}"))?,
                Vectors::Members(_) => unreachable!("members of objects are written as JSON lines"),
            }
            out.push(b'\n');
        }
        Ok(())
    }

    fn end(&mut self, _rows: u64, _out: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

/// A cell, in quotes where its text needs them.
fn quoted(cell: &str, out: &mut Vec<u8>) {
    if !cell.is_empty() && !cell.contains(['"', ',', '\n', '\r']) && cell.trim() == cell {
        out.extend_from_slice(cell.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
