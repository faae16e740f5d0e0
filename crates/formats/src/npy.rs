//! NumPy's `.npy`, two-dimensional: the vectors of a run, one row a text.
//!
//! The format is that of <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>: a magic, a version, a Python
//! dictionary padded with spaces to a multiple of 64 bytes, the values.

use crate::FileBytes;
use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Bytes of the header written here: room for the longest row count, so that it can be patched.
const HEADER: usize = 128;
/// The largest header read: NumPy refuses those over 10,000 bytes itself.
const MAX_HEADER: usize = 10_000;

/// A number that a `.npy` of vectors holds.
pub trait Value: Copy + sealed::Bytes {
    /// NumPy's name of it.
    const DESCR: &'static str;
}

mod sealed {
    pub trait Bytes {
        const SIZE: usize;
        fn append(values: &[Self], to: &mut Vec<u8>)
        where
            Self: Sized;
    }
}

macro_rules! value {
    ($type:ty, $descr:literal) => {
        impl sealed::Bytes for $type {
            const SIZE: usize = size_of::<$type>();

            fn append(values: &[Self], to: &mut Vec<u8>) {
                to.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            }
        }

        impl Value for $type {
            const DESCR: &'static str = $descr;
        }
    };
}
value!(f32, "<f4");
value!(i8, "|i1");
value!(u8, "|u1");

/// Writes `[n, width]` row by row; `n` is known at the end and patched into the header by [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<T> {
    file: BufWriter<File>,
    path: PathBuf,
    width: usize,
    rows: u64,
    buffer: Vec<u8>,
    value: std::marker::PhantomData<T>,
}

impl<T: Value> Writer<T> {
    /// Starts a file of rows of `width` values, over whatever was there.
    pub fn create(path: &Path, width: usize) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io("cannot write", path, e))?;
        let mut writer = Self::on(file, path, width, 0);
        writer.patch()?;
        Ok(writer)
    }

    /// Goes on with a file that [`Writer::create`] began and that holds at least `rows` whole rows: what follows those is cut off,
    /// and the next row written is number `rows`. The row count in the header of an unfinished file is not looked at.
    pub fn resume(path: &Path, width: usize, rows: u64) -> Result<Self> {
        let io = |e| Error::io("cannot continue", path, e);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        let mut head = [0; HEADER];
        std::io::Read::read_exact(&mut file, &mut head).map_err(io)?;
        let found = Header::parse(&head).map_err(|e| e.in_file(path))?;
        let expected = (T::DESCR, width, HEADER);
        if (found.descr.as_str(), found.width, found.end) != expected || found.fortran {
            let message = format!(
                "expected rows of {width} values {} under a header of {HEADER} bytes, found {} values {} under {} bytes",
                T::DESCR,
                found.width,
                found.descr,
                found.end
            );
            return Err(Error::new(ErrorKind::Mismatch, message)
                .in_file(path)
                .hint("the file was written with other options: write to another one"));
        }
        let length = file.metadata().map_err(io)?.len();
        let wanted = (width as u64)
            .checked_mul(T::SIZE as u64)
            .and_then(|row| row.checked_mul(rows))
            .and_then(|values| values.checked_add(HEADER as u64));
        let Some(wanted) = wanted.filter(|&wanted| wanted <= length) else {
            let message = format!("expected {rows} rows to continue after, found {length} bytes, which are fewer");
            return Err(Error::new(ErrorKind::Mismatch, message).in_file(path));
        };
        file.set_len(wanted).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Self::on(file, path, width, rows))
    }

    fn on(file: File, path: &Path, width: usize, rows: u64) -> Self {
        Self {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.to_owned(),
            width,
            rows,
            buffer: Vec::new(),
            value: std::marker::PhantomData,
        }
    }

    /// Appends whole rows.
    ///
    /// # Panics
    /// Where `values` is no whole number of rows.
    pub fn write(&mut self, values: &[T]) -> Result<()> {
        let rows = values.len().checked_div(self.width).unwrap_or(0);
        assert_eq!(rows * self.width, values.len(), "whole rows of {}", self.width);
        self.buffer.clear();
        T::append(values, &mut self.buffer);
        self.file.write_all(&self.buffer).map_err(|e| Error::io("cannot write", &self.path, e))?;
        self.rows += rows as u64;
        Ok(())
    }

    /// The rows written so far, those before a [`Writer::resume`] included.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Hands everything written to the operating system and puts the row count into the header: the file is whole up to here.
    pub fn flush(&mut self) -> Result<()> {
        self.patch()
    }

    /// Completes the file and waits until it is on the disk.
    pub fn finish(mut self) -> Result<()> {
        self.patch()?;
        self.file.get_ref().sync_all().map_err(|e| Error::io("cannot write", &self.path, e))
    }

    fn patch(&mut self) -> Result<()> {
        let header = header(T::DESCR, self.rows, self.width);
        let file = &mut self.file;
        // A BufWriter flushes before it seeks.
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&header))
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|e| Error::io("cannot write", &self.path, e))?;
        Ok(())
    }
}

fn header(descr: &str, rows: u64, width: usize) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend([1, 0]);
    header.extend(((HEADER - 10) as u16).to_le_bytes());
    header.extend(format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {width}), }}").into_bytes());
    assert!(header.len() < HEADER, "two 64-bit numbers fit in the header");
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}

/// Reads a two-dimensional file of f32.
pub fn read(path: &Path) -> Result<Embeddings> {
    read_bytes(&FileBytes::open(path)?).map_err(|e| e.in_file(path))
}

/// Reads a two-dimensional file of f32 that is in memory.
pub fn read_bytes(file: &[u8]) -> Result<Embeddings> {
    let header = Header::parse(file)?;
    if header.descr != "<f4" || header.fortran {
        let order = if header.fortran { "column" } else { "row" };
        let message = format!("expected '<f4' values in row order, found '{}' in {order} order", header.descr);
        return Err(Error::new(ErrorKind::Unsupported, message).hint("save it as np.ascontiguousarray(x, np.float32)"));
    }
    let values = &file[header.end..];
    let shape = (header.rows, header.width);
    let expected = header.rows.checked_mul(header.width).and_then(|n| n.checked_mul(4));
    if expected != Some(values.len()) {
        let expected =
            expected.map_or_else(|| "more bytes than a computer can hold".to_owned(), |n| format!("{n} bytes"));
        return Err(malformed(format!("expected {expected} for the shape {shape:?}, found {}", values.len())));
    }
    Ok(Embeddings::new(values.as_chunks().0.iter().map(|&v| f32::from_le_bytes(v)).collect(), header.width))
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

struct Header {
    descr: String,
    fortran: bool,
    rows: usize,
    width: usize,
    /// Where the values begin.
    end: usize,
}

impl Header {
    fn parse(file: &[u8]) -> Result<Self> {
        let Some((version, rest)) = file.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<2>()) else {
            return Err(malformed("expected a .npy file, found other bytes"));
        };
        let length = match (version[0], rest) {
            (1, &[a, b, ..]) => Some((2, usize::from(u16::from_le_bytes([a, b])))),
            (2 | 3, &[a, b, c, d, ..]) => Some((4, u32::from_le_bytes([a, b, c, d]) as usize)),
            (1..=3, _) => None,
            (other, _) => return Err(malformed(format!("expected .npy version 1, 2 or 3, found {other}"))),
        };
        let Some((skip, length)) = length else { return Err(malformed("the header is cut off")) };
        if length > MAX_HEADER {
            return Err(malformed(format!("expected a header of at most {MAX_HEADER} bytes, found {length}")));
        }
        let Some(text) = rest.get(skip..skip + length) else { return Err(malformed("the header is cut off")) };
        let text = std::str::from_utf8(text).map_err(|e| malformed("the header is not text").because(e))?;
        let mut header = parse_dictionary(text).ok_or_else(|| {
            malformed(format!("expected a header with descr, fortran_order and a shape of two lengths, found {text:?}"))
        })?;
        header.end = MAGIC.len() + 2 + skip + length;
        Ok(header)
    }
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, keys in any order.
fn parse_dictionary(text: &str) -> Option<Header> {
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        rest = after.trim_start().strip_prefix(':')?.trim_start();
        let repeated = match key {
            "descr" => {
                let (value, after) = quoted(rest)?;
                rest = after;
                descr.replace(value.to_owned()).is_some()
            }
            "fortran_order" => {
                let value = rest.starts_with("True");
                rest = rest.strip_prefix(if value { "True" } else { "False" })?;
                fortran.replace(value).is_some()
            }
            "shape" => {
                let (inside, after) = rest.strip_prefix('(')?.split_once(')')?;
                rest = after;
                let (rows, width) = inside.split_once(',')?;
                let width = width.trim().strip_suffix(',').unwrap_or(width).trim();
                shape.replace((rows.trim().parse().ok()?, width.parse().ok()?)).is_some()
            }
            _ => return None,
        };
        rest = rest.trim_start();
        if repeated {
            return None;
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => {}
            None => return None,
        }
    }
    let (rows, width) = shape?;
    Some(Header { descr: descr?, fortran: fortran?, rows, width, end: 0 })
}

/// A string in single or double quotes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_written_in_parts_come_back_in_one_array() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.npy");
        let mut writer = Writer::create(&path, 3).unwrap();
        writer.write(&[1.0f32, 2., 3., 4., 5., 6.]).unwrap();
        writer.flush().unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
        writer.write(&[7., 8., 9.]).unwrap();
        assert_eq!(writer.rows(), 3);
        writer.finish().unwrap();
        assert_eq!(read(&path).unwrap(), Embeddings::new((1..=9u8).map(f32::from).collect(), 3));
    }

    #[test]
    fn an_empty_file_is_zero_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.npy");
        Writer::<f32>::create(&path, 4).unwrap().finish().unwrap();
        let read = read(&path).unwrap();
        assert_eq!((read.len(), read.dim()), (0, 4));
    }

    #[test]
    fn a_killed_run_goes_on_after_the_row_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.npy");
        let mut writer = Writer::create(&path, 2).unwrap();
        writer.write(&[1i8, 2, 3, 4, 5, 6]).unwrap();
        writer.flush().unwrap();
        drop(writer);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(&[9]).unwrap();
        let mut writer = Writer::<i8>::resume(&path, 2, 2).unwrap();
        writer.write(&[7, 8]).unwrap();
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[HEADER..], [1, 2, 3, 4, 7, 8]);
        assert!(
            String::from_utf8_lossy(&bytes[..HEADER]).contains("'|i1', 'fortran_order': False, 'shape': (3, 2), }")
        );

        for (width, rows) in [(3, 0), (2, 4), (2, u64::MAX)] {
            assert_eq!(Writer::<i8>::resume(&path, width, rows).unwrap_err().kind(), ErrorKind::Mismatch);
        }
        assert_eq!(Writer::<u8>::resume(&path, 2, 0).unwrap_err().kind(), ErrorKind::Mismatch);
    }

    fn file(dictionary: &str, values: usize) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &[1, 0], &(dictionary.len() as u16).to_le_bytes()].concat();
        bytes.extend(dictionary.as_bytes());
        bytes.resize(bytes.len() + values, 0);
        bytes
    }

    #[test]
    fn headers_that_other_writers_produce_are_understood() {
        for dictionary in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n",
            "{\"shape\":(2,3),\"descr\":\"<f4\",\"fortran_order\":False}",
        ] {
            let read = read_bytes(&file(dictionary, 24)).unwrap();
            assert_eq!((read.len(), read.dim()), (2, 3));
        }
    }

    #[test]
    fn malformed_files_are_refused_with_a_reason() {
        let refused = |dictionary: &str, values| read_bytes(&file(dictionary, values)).unwrap_err().to_string();
        let of = |descr, order, shape| format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        assert!(refused(&of("<f4", "False", "(2, 3)"), 23).contains("expected 24 bytes"));
        assert!(refused(&of("<f4", "False", "(2, 3)"), 25).contains("found 25"));
        assert!(refused(&of("<f8", "False", "(2, 3)"), 48).contains("'<f8'"));
        assert!(refused(&of("<f4", "True", "(2, 3)"), 24).contains("column order"));
        assert!(
            refused(&of("<f4", "False", "(4611686018427387904, 4)"), 0).contains("more bytes than a computer can hold")
        );
        for shape in ["(6,)", "(1, 2, 3)", "()", "(-1, 3)", "(99999999999999999999, 3)"] {
            assert!(refused(&of("<f4", "False", shape), 24).contains("shape of two lengths"), "{shape}");
        }
        for dictionary in ["", "{", "{}", "{'descr'", "{'descr': '<f4'}", "{'descr': '<f4', 'descr': '<f4'}"] {
            assert!(refused(dictionary, 0).contains("found"), "{dictionary}");
        }
        assert!(read_bytes(b"\x93NUMPY\x01\x00\xff").is_err());
        assert!(read_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").is_err());
        assert!(read_bytes(b"\x93NUMPY\x09\x00\x00\x00").is_err());
        assert!(read_bytes(b"PK").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_bytes(&bytes);
            let _ = read_bytes(&[MAGIC.as_slice(), &[1, 0, 60, 0], &bytes].concat());
        }

        #[test]
        fn no_change_of_a_header_makes_the_reader_panic(at in 0..HEADER, to in any::<u8>()) {
            let mut bytes = [header("<f4", 2, 3), vec![0; 24]].concat();
            bytes[at] = to;
            if let Ok(read) = read_bytes(&bytes) {
                prop_assert_eq!(read.as_slice().len() * 4, 24);
            }
        }
    }
}
