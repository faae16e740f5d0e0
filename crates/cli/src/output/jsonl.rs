//! JSON lines: `{"index":0,"embedding":[…]}`, with the input's id in the place of the index where it has one;
//! of a chunk also `"chunk"`, `"start"` and `"end"`.

use super::{Encode, Layout, Rows, Vectors, integer, text};
use crate::input::{Id, IdType, Place};
use anyhow::Result;

/// One object a row.
pub(super) struct JsonLines(Layout);

impl JsonLines {
    pub(super) fn new(layout: Layout) -> Self {
        Self(layout)
    }
}

impl Encode for JsonLines {
    fn rows(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        let width = self.0.width;
        for (i, record) in rows.records.iter().enumerate() {
            match (&record.id, self.0.id_type) {
                (Id::Row(n), _) => out.extend_from_slice(format!("{{\"index\":{n}").as_bytes()),
                (id, Some(IdType::Text)) => {
                    out.extend_from_slice(b"{\"id\":");
                    serde_json::to_writer(&mut *out, &text(id))?;
                }
                (_, Some(IdType::Int32 | IdType::Int64)) => {
                    out.extend_from_slice(format!("{{\"id\":{}", integer(record)?).as_bytes());
                }
                (Id::Int(n), None) => out.extend_from_slice(format!("{{\"id\":{n}").as_bytes()),
                (Id::Json(json), None) => out.extend_from_slice(format!("{{\"id\":{json}").as_bytes()),
                (Id::Text(id), None) => {
                    out.extend_from_slice(b"{\"id\":");
                    serde_json::to_writer(&mut *out, id)?;
                }
            }
            if let Some(Place { chunk, start, end, .. }) = &record.place {
                out.extend_from_slice(format!(",\"chunk\":{chunk},\"start\":{start},\"end\":{end}").as_bytes());
            }
            if self.0.text {
                out.extend_from_slice(b",\"text\":");
                serde_json::to_writer(&mut *out, &record.text)?;
            }
            match rows.vectors {
                Vectors::Members(members) => out.extend_from_slice(members[rows.first + i].as_bytes()),
                numbers => {
                    out.extend_from_slice(b",\"embedding\":");
                    let row = (rows.first + i) * width;
                    if self.0.base64 {
                        out.push(b'"');
                        numbers.base64(row..row + width, out);
                        out.push(b'"');
                    } else {
                        numbers.json(row..row + width, out)?;
                    }
                }
            }
            out.extend_from_slice(b"}\n");
        }
        Ok(())
    }

    fn end(&mut self, _rows: u64, _out: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
