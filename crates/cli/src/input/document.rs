//! A whole file as one text.

use super::{Bytes, Fault, Id, Record, Source, to_text};
use anyhow::anyhow;
use std::io::Read;

/// The longest document that is taken.
const LONGEST: u64 = 256 << 20;

/// The one text of a file.
pub(super) struct Document {
    reader: Option<Bytes>,
    name: String,
}

impl Document {
    pub(super) fn new(reader: Bytes, name: String) -> Self {
        Self { reader: Some(reader), name }
    }
}

impl Source for Document {
    fn next(&mut self, repairs: &mut u64) -> Result<Option<Record>, Fault> {
        let Some(reader) = self.reader.take() else { return Ok(None) };
        let mut bytes = Vec::new();
        let mut reader = reader.take(LONGEST + 1);
        reader.read_to_end(&mut bytes).map_err(|e| Fault::File(anyhow!("cannot read {}: {e}", self.name)))?;
        if bytes.len() as u64 > LONGEST {
            return Err(Fault::File(anyhow!(
                "{}: the document is longer than {} MiB: split it",
                self.name,
                LONGEST >> 20
            )));
        }
        Ok(Some(Record { id: Id::Row(0), text: to_text(&bytes, repairs), line: 1, place: None }))
    }
}
