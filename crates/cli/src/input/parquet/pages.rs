//! Pages whose headers are believed only as far as their bytes go, and files that end where they end.
//!
//! The `parquet` crate makes room for as many values as the header of a dictionary page claims, before it reads one: 280 bytes can ask
//! for gigabytes. Data pages need no such check, since no more of one is decoded at once than the rows of a batch.

use parquet::{
    arrow::arrow_reader::RowGroups,
    basic::Type,
    column::page::{Page, PageIterator, PageMetadata, PageReader},
    errors::{ParquetError, Result},
    file::{
        metadata::{ParquetMetaData, RowGroupMetaData},
        reader::{ChunkReader, FileReader, Length},
    },
};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::Arc,
};

/// A file that says where it ends: reading there is an error, so that a header of a few bytes cannot have billions of values skipped
/// that are not there.
pub(super) struct Ending(pub(super) File);

/// Reads to the end and not beyond.
pub(super) struct Rest(BufReader<File>);

impl Read for Rest {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.0.read(to)? {
            0 if !to.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

impl Length for Ending {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Ending {
    type T = Rest;

    fn get_read(&self, start: u64) -> Result<Rest> {
        self.0.get_read(start).map(Rest)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// The row groups of a file.
pub(super) struct Checked(pub(super) Arc<dyn FileReader>);

impl RowGroups for Checked {
    fn num_rows(&self) -> usize {
        self.0.num_rows()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let chunks = self.0.column_chunks(column)?;
        let schema = RowGroups::metadata(&self.0).file_metadata().schema_descr();
        let least = match schema.column(column).physical_type() {
            Type::BOOLEAN => 0,
            // The length of a byte array takes 4 bytes itself.
            Type::BYTE_ARRAY | Type::INT32 | Type::FLOAT => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => usize::try_from(schema.column(column).type_length()).unwrap_or(0),
        };
        Ok(Box::new(Chunks { chunks, least }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        self.0.row_groups()
    }

    fn metadata(&self) -> &ParquetMetaData {
        RowGroups::metadata(&self.0)
    }
}

/// The chunks of a column, one a row group.
struct Chunks {
    chunks: Box<dyn PageIterator>,
    /// Bytes of a value at least.
    least: usize,
}

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let least = self.least;
        Some(self.chunks.next()?.map(|pages| Box::new(Pages { pages, least }) as Box<dyn PageReader>))
    }
}

impl PageIterator for Chunks {}

/// The pages of a chunk.
struct Pages {
    pages: Box<dyn PageReader>,
    least: usize,
}

impl Pages {
    fn check(&self, page: Option<Page>) -> Result<Option<Page>> {
        if let Some(Page::DictionaryPage { buf, num_values, .. }) = &page {
            let needed = (*num_values as usize).saturating_mul(self.least);
            if needed > buf.len() {
                let found = buf.len();
                let message =
                    format!("a dictionary of {num_values} values takes {needed} bytes or more, found {found}");
                return Err(ParquetError::General(message));
            }
        }
        Ok(page)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        self.check(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        let page = self.pages.take_deferred_dictionary()?;
        self.check(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}
