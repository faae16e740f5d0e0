//! Parquet tables, a few hundred rows at a time.

mod footer;
mod pages;

use super::{Fault, Id, IdType, Record, Source, listed, to_text};
use anyhow::{Context, Result, anyhow};
use arrow_array::{
    Array,
    cast::AsArray,
    types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type},
};
use arrow_schema::DataType;
use embral_types::guarded;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader},
        parquet_to_arrow_field_levels,
    },
    file::{reader::FileReader, serialized_reader::SerializedFileReader},
};
use std::{fs::File, path::Path, sync::Arc, vec::IntoIter};

/// Rows decoded at once: enough to be fast, few enough that rows of whole documents stay small in memory.
const ROWS: usize = 512;

/// One cell of a column; nothing where it is null.
type Cell = Option<Id>;

/// The rows of a table as records.
pub(super) struct Table {
    batches: ParquetRecordBatchReader,
    name: String,
    field: String,
    id_field: Option<String>,
    id_type: Option<IdType>,
    texts: IntoIter<Cell>,
    ids: Option<IntoIter<Cell>>,
    row: u64,
    total: u64,
}

/// Runs code of the `parquet` crate, which panics on some of the files that are damaged.
fn foreign<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded(run).unwrap_or_else(|| Err(anyhow!("{name} is damaged: write the Parquet file again")))
}

impl Table {
    pub(super) fn open(path: &Path, field: &str, id_field: Option<&str>) -> Result<Self> {
        foreign(&path.display().to_string(), || Self::open_unguarded(path, field, id_field))
    }

    fn open_unguarded(path: &Path, field: &str, id_field: Option<&str>) -> Result<Self> {
        let name = path.display().to_string();
        let mut file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        footer::check(&mut file).with_context(|| format!("{name}: no Parquet file that can be read"))?;
        let no_table = |e| anyhow!("{name}: no Parquet file: {e}");
        let file = SerializedFileReader::new(pages::Ending(file)).map_err(no_table)?;
        let metadata = Arc::new(file.metadata().clone());
        let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new()).map_err(no_table)?;
        let (schema, parquet_schema) = (metadata.schema(), metadata.parquet_schema());
        let total = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        let column = |field: &str, flag: &str| {
            schema.index_of(field).map_err(|_| {
                let found = listed(schema.fields().iter().map(|f| f.name().as_str()));
                anyhow!("{name} has no column {field:?}; the columns are: {found}: name one with {flag}")
            })
        };
        let text = column(field, "--field")?;
        let id = id_field.map(|f| column(f, "--id-field")).transpose()?;
        let text_type = schema.field(text).data_type();
        anyhow::ensure!(
            is_text(text_type),
            "{name}: column {field:?} holds {text_type}, not text: name another with --field"
        );
        let id_type = id.map(|i| {
            id_type(schema.field(i).data_type()).with_context(|| {
                format!(
                    "{name}: column {:?} holds {}: ids are integers or strings",
                    schema.field(i).name(),
                    schema.field(i).data_type()
                )
            })
        });
        let id_type = id_type.transpose()?;
        let roots = std::iter::once(text).chain(id);
        let mask = ProjectionMask::roots(parquet_schema, roots);
        let rows = usize::try_from(total).unwrap_or(ROWS).min(ROWS);
        let batches = parquet_to_arrow_field_levels(parquet_schema, mask, Some(schema.fields()))
            .and_then(|levels| {
                let groups = pages::Checked(Arc::new(file));
                ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, rows, None)
            })
            .map_err(|e| anyhow!("cannot read {name}: {e}"))?;
        Ok(Self {
            batches,
            name,
            field: field.to_owned(),
            id_field: id_field.map(str::to_owned),
            id_type,
            texts: Vec::new().into_iter(),
            ids: None,
            row: 0,
            total,
        })
    }

    /// Decodes the next rows; false at the end.
    fn fill(&mut self, repairs: &mut u64) -> Result<bool> {
        let Some(batch) = foreign(&self.name, || Ok(self.batches.next()))? else { return Ok(false) };
        let batch = batch.map_err(|e| anyhow!("{}: row {} and on cannot be decoded: {e}", self.name, self.row + 1))?;
        let column = |field: &str, repairs: &mut u64| {
            let array =
                batch.column_by_name(field).with_context(|| format!("{}: column {field:?} is gone", self.name))?;
            cells(array.as_ref(), repairs).with_context(|| format!("{}: column {field:?}", self.name))
        };
        self.texts = column(&self.field, repairs)?.into_iter();
        self.ids = self.id_field.as_deref().map(|f| column(f, repairs)).transpose()?.map(Vec::into_iter);
        Ok(true)
    }
}

impl Source for Table {
    fn next(&mut self, repairs: &mut u64) -> Result<Option<Record>, Fault> {
        while self.texts.as_slice().is_empty() {
            if !self.fill(repairs)? {
                return Ok(None);
            }
        }
        self.row += 1;
        let text = self.texts.next().flatten();
        let id = match &mut self.ids {
            None => Some(Id::Row(0)),
            Some(ids) => ids.next().flatten(),
        };
        let null = |field: &str| Fault::Row(anyhow!("{}: row {}: column {field:?} is null", self.name, self.row));
        match (text, id) {
            (Some(Id::Text(text)), Some(id)) => Ok(Some(Record { id, text, line: self.row, place: None })),
            (Some(_), None) => Err(null(self.id_field.as_deref().unwrap_or_default())),
            _ => Err(null(&self.field)),
        }
    }

    fn id_type(&self) -> Option<IdType> {
        self.id_type
    }

    fn rows(&self) -> Option<(u64, u64)> {
        Some((self.row, self.total))
    }
}

fn is_text(kind: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Dictionary, LargeBinary, LargeUtf8, Utf8, Utf8View};
    match kind {
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => true,
        Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn id_type(kind: &DataType) -> Option<IdType> {
    use DataType::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    match kind {
        Int8 | Int16 | Int32 | UInt8 | UInt16 => Some(IdType::Int32),
        Int64 | UInt32 | UInt64 => Some(IdType::Int64),
        kind if is_text(kind) => Some(IdType::Text),
        _ => None,
    }
}

/// The cells of a column of text or integers.
fn cells(array: &dyn Array, repairs: &mut u64) -> Result<Vec<Cell>> {
    fn texts<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> Vec<Cell> {
        cells.map(|c| c.map(|c| Id::Text(c.to_owned()))).collect()
    }
    fn bytes<'a>(cells: impl Iterator<Item = Option<&'a [u8]>>, repairs: &mut u64) -> Vec<Cell> {
        cells.map(|c| c.map(|c| Id::Text(to_text(c, repairs)))).collect()
    }
    macro_rules! integers {
        ($kind:ty) => {
            array.as_primitive::<$kind>().iter().map(|c| c.map(|c| Id::Int(i64::from(c)))).collect()
        };
    }
    Ok(match array.data_type() {
        DataType::Utf8 => texts(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => texts(array.as_string::<i64>().iter()),
        DataType::Utf8View => texts(array.as_string_view().iter()),
        DataType::Binary => bytes(array.as_binary::<i32>().iter(), repairs),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().iter(), repairs),
        DataType::BinaryView => bytes(array.as_binary_view().iter(), repairs),
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => array
            .as_primitive::<UInt64Type>()
            .iter()
            .map(|c| c.map(|c| i64::try_from(c).map(Id::Int)).transpose())
            .collect::<Result<_, _>>()
            .context("an id is over 2^63")?,
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let values = cells(dictionary.values().as_ref(), repairs)?;
            if values.is_empty() {
                return Ok(vec![None; array.len()]);
            }
            let keys = dictionary.normalized_keys();
            (0..array.len()).map(|row| if array.is_null(row) { None } else { values[keys[row]].clone() }).collect()
        }
        other => return Err(anyhow!("{other} is neither text nor an integer")),
    })
}
