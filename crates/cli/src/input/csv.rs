//! Tables as text: comma- or tab-separated values with a header line.

use super::{Bytes, Fault, Id, Record, Source, listed, to_text};
use anyhow::{Result, anyhow, bail};

/// The rows of a table as records.
pub(super) struct Table {
    reader: csv::Reader<Bytes>,
    record: csv::ByteRecord,
    name: String,
    text: usize,
    id: Option<usize>,
}

impl Table {
    pub(super) fn new(reader: Bytes, name: String, delimiter: u8, field: &str, id_field: Option<&str>) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
        let headers = reader.byte_headers().map_err(|e| anyhow!("cannot read {name}: {e}"))?.clone();
        let headers: Vec<String> = headers.iter().map(|h| String::from_utf8_lossy(h).into_owned()).collect();
        if headers.is_empty() {
            bail!("{name} is empty: a CSV file starts with a line that names its columns");
        }
        let column = |field: &str, flag: &str| {
            headers.iter().position(|h| h == field).ok_or_else(|| {
                let found = listed(headers.iter().map(String::as_str));
                anyhow!("{name} has no column {field:?}; the columns are: {found}: name one with {flag}")
            })
        };
        let text = column(field, "--field")?;
        let id = id_field.map(|f| column(f, "--id-field")).transpose()?;
        Ok(Self { reader, record: csv::ByteRecord::new(), name, text, id })
    }
}

impl Source for Table {
    fn next(&mut self, repairs: &mut u64) -> Result<Option<Record>, Fault> {
        let line = self.reader.position().line();
        let more = self.reader.read_byte_record(&mut self.record).map_err(|e| match e.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                Fault::Row(anyhow!("{}:{line}: {len} columns where the header has {expected_len}", self.name))
            }
            _ => Fault::File(anyhow!("{}:{line}: {e}", self.name)),
        })?;
        if !more {
            return Ok(None);
        }
        let line = self.record.position().map_or(line, csv::Position::line);
        let cell = |column: usize| self.record.get(column).unwrap_or_default();
        let before = *repairs;
        let text = to_text(cell(self.text), repairs);
        let id = self.id.map_or(Id::Row(0), |column| Id::Text(to_text(cell(column), repairs)));
        *repairs = (*repairs).min(before + 1);
        Ok(Some(Record { id, text, line, place: None }))
    }
}
