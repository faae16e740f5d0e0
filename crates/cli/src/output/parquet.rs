//! Parquet: `index` or `id`, the place of a chunk, the text where it is wanted, and `embedding`, a fixed-size list.
//!
//! A run that is killed has no footer yet, and the footer is where Parquet says what lies where. So each row group is
//! written as a whole small Parquet file of its own, followed by its length and a mark: a resumed run walks back over them
//! from the last whole one and collects their metadata. The end of the output is one footer over all of the groups, with
//! their positions moved to where they lie; the small footers between them are never looked at again (about 1 KB a group).

use super::{Encode, Layout, Rows, Vectors, integer, text};
use crate::input::{Id, IdType, Place, Record};
use anyhow::{Context, Result, anyhow, ensure};
use arrow_array::{
    ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Int8Array, Int32Array, Int64Array, RecordBatch,
    StringArray, UInt8Array,
};
use arrow_schema::{DataType, Field, Schema};
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    file::{
        metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData},
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    sync::Arc,
};

/// Follows the length of each row group's own small file.
const MARK: &[u8; 8] = b"embralRG";

/// One row group after the other.
pub(super) struct Table {
    layout: Layout,
    group: usize,
    records: Vec<Record>,
    vectors: Vectors,
    /// Bytes of all groups so far.
    position: u64,
    groups: Vec<RowGroupMetaData>,
    about: Option<FileMetaData>,
}

impl Table {
    pub(super) fn new(layout: Layout, group: usize) -> Result<Self> {
        ensure!(group > 0, "a row group has at least one row");
        let vectors = Vectors::empty(layout.number);
        Ok(Self { layout, group, records: Vec::new(), vectors, position: 0, groups: Vec::new(), about: None })
    }

    /// Ids are what the input said, or what the first one is.
    fn id_type(&mut self) -> IdType {
        *self.layout.id_type.get_or_insert_with(|| match self.records.first().map(|r| &r.id) {
            Some(Id::Text(_) | Id::Json(_)) => IdType::Text,
            Some(Id::Int(_) | Id::Row(_)) | None => IdType::Int64,
        })
    }

    /// The rows that are kept as a whole Parquet file.
    fn file(&mut self) -> Result<Vec<u8>> {
        let width = i32::try_from(self.layout.width).context("the vectors are too wide for Parquet")?;
        let mut fields = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        let name = if self.layout.ids { "id" } else { "index" };
        let (kind, ids): (DataType, ArrayRef) = match if self.layout.ids { self.id_type() } else { IdType::Int64 } {
            IdType::Int64 => {
                let ids = self.records.iter().map(integer).collect::<Result<Vec<i64>>>()?;
                (DataType::Int64, Arc::new(Int64Array::from(ids)))
            }
            IdType::Int32 => {
                let narrow = |r: &Record| {
                    i32::try_from(integer(r)?).with_context(|| format!("line {}: the id is over 2^31", r.line))
                };
                let ids = self.records.iter().map(narrow).collect::<Result<Vec<i32>>>()?;
                (DataType::Int32, Arc::new(Int32Array::from(ids)))
            }
            IdType::Text => {
                (DataType::Utf8, Arc::new(self.records.iter().map(|r| Some(text(&r.id))).collect::<StringArray>()))
            }
        };
        fields.push(Field::new(name, kind, false));
        columns.push(ids);
        if self.layout.chunks {
            let mut column = |name: &str, of: fn(&Place) -> usize| -> Result<()> {
                let place = |r: &Record| i64::try_from(r.place.as_ref().map_or(0, of));
                fields.push(Field::new(name, DataType::Int64, false));
                columns
                    .push(Arc::new(Int64Array::from(self.records.iter().map(place).collect::<Result<Vec<_>, _>>()?)));
                Ok(())
            };
            column("chunk", |place| place.chunk)?;
            column("start", |place| place.start)?;
            column("end", |place| place.end)?;
        }
        if self.layout.text {
            fields.push(Field::new("text", DataType::Utf8, false));
            columns.push(Arc::new(self.records.iter().map(|r| Some(r.text.as_str())).collect::<StringArray>()));
        }
        let (kind, values): (DataType, ArrayRef) =
            match std::mem::replace(&mut self.vectors, Vectors::empty(self.layout.number)) {
                Vectors::F32(v) => (DataType::Float32, Arc::new(Float32Array::from(v))),
                Vectors::F16(v) => (DataType::Float16, Arc::new(Float16Array::from(v))),
                Vectors::I8(v) => (DataType::Int8, Arc::new(Int8Array::from(v))),
                Vectors::U8(v) => (DataType::UInt8, Arc::new(UInt8Array::from(v))),
                Vectors::Members(_) => unreachable!("members of objects are written as JSON lines"),
            };
        let element = Arc::new(Field::new("element", kind, false));
        fields.push(Field::new("embedding", DataType::FixedSizeList(Arc::clone(&element), width), false));
        columns.push(Arc::new(FixedSizeListArray::try_new(element, width, values, None)?));
        let schema = Arc::new(Schema::new(fields));
        let embedding = ColumnPath::from("embedding.list.element");
        let properties = WriterProperties::builder()
            .set_created_by(concat!("embral ", env!("CARGO_PKG_VERSION")).into())
            .set_compression(Compression::SNAPPY)
            .set_column_compression(embedding.clone(), Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_column_statistics_enabled(embedding, EnabledStatistics::None)
            .set_column_statistics_enabled(ColumnPath::from("text"), EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_max_row_group_row_count(None)
            .build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties))?;
        if !self.records.is_empty() {
            writer.write(&RecordBatch::try_new(schema, columns)?)?;
        }
        writer.close()?;
        self.records.clear();
        Ok(bytes)
    }

    /// Takes up the groups of one small file that begins at `start`.
    fn collect(&mut self, metadata: &ParquetMetaData, start: u64) -> Result<Vec<RowGroupMetaData>> {
        self.about.get_or_insert_with(|| metadata.file_metadata().clone());
        let by = i64::try_from(start)?;
        metadata.row_groups().iter().map(|group| moved(group, by)).collect()
    }
}

impl Encode for Table {
    fn rows(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        self.records.extend(rows.records.iter().map(|r| Record {
            id: r.id.clone(),
            text: if self.layout.text { r.text.clone() } else { String::new() },
            line: r.line,
            place: r.place.clone().map(|place| Place { document: None, ..place }),
        }));
        let width = self.layout.width;
        let range = rows.first * width..(rows.first + rows.records.len()) * width;
        match (&mut self.vectors, rows.vectors) {
            (Vectors::F32(kept), Vectors::F32(new)) => kept.extend_from_slice(&new[range]),
            (Vectors::F16(kept), Vectors::F16(new)) => kept.extend_from_slice(&new[range]),
            (Vectors::I8(kept), Vectors::I8(new)) => kept.extend_from_slice(&new[range]),
            (Vectors::U8(kept), Vectors::U8(new)) => kept.extend_from_slice(&new[range]),
            _ => return Err(anyhow!("the vectors are no {:?}", self.layout.number)),
        }
        if self.records.len() >= self.group { self.flush(out) } else { Ok(()) }
    }

    fn group(&self) -> usize {
        self.group
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        let bytes = self.file()?;
        // Read back rather than kept, so that a resumed run has the same metadata to the bit.
        let footer = bytes.len().checked_sub(8).context("a Parquet file has a footer")?;
        let length = u32::from_le_bytes(bytes[footer..footer + 4].try_into().expect("four bytes"));
        let metadata = ParquetMetaDataReader::decode_metadata(&bytes[footer - length as usize..footer])?;
        let groups = self.collect(&metadata, self.position)?;
        self.groups.extend(groups);
        out.extend_from_slice(&bytes);
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(MARK);
        self.position += bytes.len() as u64 + 16;
        Ok(())
    }

    fn resume(&mut self, file: &mut File, bytes: u64) -> Result<()> {
        let mut end = bytes;
        let mut groups = Vec::new();
        while end > 0 {
            let broken = || anyhow!("the row group that ends at byte {end} is damaged: start again with --overwrite");
            let mut tail = [0; 24];
            file.seek(SeekFrom::Start(end.checked_sub(24).ok_or_else(broken)?))?;
            file.read_exact(&mut tail)?;
            let length = u64::from_le_bytes(tail[8..16].try_into().expect("eight bytes"));
            let footer = u64::from(u32::from_le_bytes(tail[..4].try_into().expect("four bytes")));
            ensure!(&tail[16..] == MARK && &tail[4..8] == b"PAR1" && footer < length && length <= end - 16, broken());
            let start = end - 16 - length;
            let mut thrift = vec![0; usize::try_from(footer)?];
            file.seek(SeekFrom::Start(end - 24 - footer))?;
            file.read_exact(&mut thrift)?;
            let metadata = ParquetMetaDataReader::decode_metadata(&thrift).map_err(|e| anyhow!("{}: {e}", broken()))?;
            groups.push(self.collect(&metadata, start)?);
            end = start;
        }
        self.groups = groups.into_iter().rev().flatten().collect();
        self.position = bytes;
        if self.layout.ids
            && let Some(about) = &self.about
        {
            self.layout.id_type = Some(match about.schema_descr().column(0).physical_type() {
                parquet::basic::Type::INT32 => IdType::Int32,
                parquet::basic::Type::INT64 => IdType::Int64,
                _ => IdType::Text,
            });
        }
        Ok(())
    }

    fn end(&mut self, rows: u64, out: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
        let Some(about) = &self.about else {
            let bytes = self.file()?;
            out.extend_from_slice(&bytes);
            return Ok(None);
        };
        let about = FileMetaData::new(
            about.version(),
            i64::try_from(rows)?,
            about.created_by().map(str::to_owned),
            about.key_value_metadata().cloned(),
            about.schema_descr_ptr(),
            about.column_orders().cloned(),
        );
        let groups = std::mem::take(&mut self.groups);
        ParquetMetaDataWriter::new(out, &ParquetMetaData::new(about, groups)).finish()?;
        Ok(None)
    }
}

/// The metadata of a group that lies `by` bytes further on.
fn moved(group: &RowGroupMetaData, by: i64) -> Result<RowGroupMetaData> {
    let columns = group.columns().iter().map(|column| {
        let (page, dictionary) = (column.data_page_offset(), column.dictionary_page_offset());
        let column = column.clone().into_builder().set_data_page_offset(page + by);
        Ok(column.set_dictionary_page_offset(dictionary.map(|d| d + by)).build()?)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let mut moved = group.clone().into_builder().set_column_metadata(columns);
    if let Some(offset) = group.file_offset() {
        moved = moved.set_file_offset(offset + by);
    }
    Ok(moved.build()?)
}
