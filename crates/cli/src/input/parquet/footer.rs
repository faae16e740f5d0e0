//! The metadata at the end of a file, walked before the `parquet` crate believes it: it makes room for as many columns as a schema
//! element claims, and for as many elements as a list claims, before it reads one.
//!
//! The metadata is one struct of the compact Thrift protocol; its field 2 is the schema, a list of elements in depth-first order whose
//! field 5 is the number of their children.

use anyhow::{Result, bail};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

/// Bytes behind the metadata: its length and the magic.
const END: u64 = 8;
/// Structs and lists within one another; Parquet's own stay below 8.
const DEPTH: usize = 32;
const SCHEMA: i64 = 2;
const CHILDREN: i64 = 5;

/// Refuses metadata that claims more than its bytes can hold. What is no Parquet file at all is left to the reader.
pub(super) fn check(file: &mut File) -> Result<()> {
    let size = file.metadata()?.len();
    if size < END {
        return Ok(());
    }
    let mut end = [0; END as usize];
    file.seek(SeekFrom::Start(size - END))?;
    file.read_exact(&mut end)?;
    let [a, b, c, d, magic @ ..] = end;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if magic != *b"PAR1" || length > size - END {
        return Ok(());
    }
    let mut metadata = vec![0; length as usize];
    file.seek(SeekFrom::Start(size - END - length))?;
    file.read_exact(&mut metadata)?;
    let mut walk = Walk { rest: &metadata };
    walk.fields(0, &mut |walk, field, kind| match (field, kind) {
        (SCHEMA, Kind::List) => walk.schema(),
        _ => walk.skip(kind, 1),
    })
}

/// What is left to be read.
struct Walk<'a> {
    rest: &'a [u8],
}

/// The types of the protocol that differ in how they are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A boolean as a field, whose value is its type.
    Flag,
    Byte,
    Number,
    Double,
    Bytes,
    List,
    Map,
    Struct,
    Uuid,
}

impl Kind {
    fn of(code: u8) -> Result<Self> {
        Ok(match code {
            1 | 2 => Self::Flag,
            3 => Self::Byte,
            4..=6 => Self::Number,
            7 => Self::Double,
            8 => Self::Bytes,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            _ => bail!("its metadata is damaged: no type {code}"),
        })
    }

    /// As an element of a list or a map, where a boolean has a byte of its own.
    fn of_element(code: u8) -> Result<Self> {
        Ok(match Self::of(code)? {
            Self::Flag => Self::Byte,
            other => other,
        })
    }
}

impl Walk<'_> {
    fn take(&mut self, count: u64) -> Result<&[u8]> {
        match usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count)) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => bail!("its metadata is damaged: {count} bytes claimed, {} left", self.rest.len()),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("its metadata is damaged: a number without an end")
    }

    /// A number with its sign in the lowest bit.
    fn number(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The length of a list, of which every element takes a byte at least, and what the elements are.
    fn list(&mut self) -> Result<(u64, Kind)> {
        let header = self.byte()?;
        let count = if header >> 4 == 15 { self.varint()? } else { u64::from(header >> 4) };
        if count > self.rest.len() as u64 {
            bail!("its metadata is damaged: a list of {count} elements in {} bytes", self.rest.len());
        }
        Ok((count, if count == 0 { Kind::Byte } else { Kind::of_element(header & 15)? }))
    }

    /// The fields of a struct, each read by `field`.
    fn fields(&mut self, depth: usize, field: &mut dyn FnMut(&mut Self, i64, Kind) -> Result<()>) -> Result<()> {
        if depth > DEPTH {
            bail!("its metadata is damaged: more than {DEPTH} structs within one another");
        }
        let mut id = 0_i64;
        loop {
            let header = self.byte()?;
            if header & 15 == 0 {
                return Ok(());
            }
            id = if header >> 4 == 0 { self.number()? } else { id.wrapping_add(i64::from(header >> 4)) };
            field(self, id, Kind::of(header & 15)?)?;
        }
    }

    fn skip(&mut self, kind: Kind, depth: usize) -> Result<()> {
        match kind {
            Kind::Flag => {}
            Kind::Byte => drop(self.byte()?),
            Kind::Number => drop(self.varint()?),
            Kind::Double => drop(self.take(8)?),
            Kind::Uuid => drop(self.take(16)?),
            Kind::Bytes => {
                let count = self.varint()?;
                self.take(count)?;
            }
            Kind::Struct => self.fields(depth, &mut |walk, _, kind| walk.skip(kind, depth + 1))?,
            Kind::List => {
                let (count, kind) = self.list()?;
                self.deeper(depth)?;
                for _ in 0..count {
                    self.skip(kind, depth + 1)?;
                }
            }
            Kind::Map => {
                let count = self.varint()?;
                if count > 0 {
                    let kinds = self.byte()?;
                    let (key, value) = (Kind::of_element(kinds >> 4)?, Kind::of_element(kinds & 15)?);
                    self.deeper(depth)?;
                    for _ in 0..count {
                        self.skip(key, depth + 1)?;
                        self.skip(value, depth + 1)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn deeper(&self, depth: usize) -> Result<()> {
        if depth > DEPTH {
            bail!("its metadata is damaged: more than {DEPTH} lists within one another");
        }
        Ok(())
    }

    fn schema(&mut self) -> Result<()> {
        let (count, kind) = self.list()?;
        for _ in 0..count {
            if kind != Kind::Struct {
                self.skip(kind, 1)?;
                continue;
            }
            self.fields(1, &mut |walk, field, kind| match (field, kind) {
                (CHILDREN, Kind::Number) => {
                    let children = walk.number()?;
                    if u64::try_from(children).is_ok_and(|children| children < count) {
                        return Ok(());
                    }
                    bail!("its schema is damaged: a column of {children} columns, of {count} in all")
                }
                _ => walk.skip(kind, 2),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn checked(metadata: &[u8]) -> Result<()> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"PAR1").unwrap();
        file.write_all(metadata).unwrap();
        file.write_all(&(metadata.len() as u32).to_le_bytes()).unwrap();
        file.write_all(b"PAR1").unwrap();
        check(&mut file)
    }

    #[test]
    fn a_schema_has_no_more_children_than_elements() {
        // Field 2, a list of two structs: one with field 5 = 1 or 1,000,000, one with nothing.
        assert!(checked(&[0x29, 0x2c, 0x55, 2, 0, 0, 0]).is_ok());
        let error = checked(&[0x29, 0x2c, 0x55, 0x80, 0x89, 0x7a, 0, 0, 0]).unwrap_err().to_string();
        assert_eq!(error, "its schema is damaged: a column of 1000000 columns, of 2 in all");
        assert!(checked(&[0x29, 0x2c, 0x55, 1, 0, 0, 0]).is_err(), "-1");
    }

    #[test]
    fn what_claims_more_than_its_bytes_is_refused() {
        for (metadata, wanted) in [
            (&[0x39, 0xfc, 0xff, 0xff, 0x03][..], "a list of 65535 elements in 0 bytes"),
            (&[0x38, 0x20, 1, 2], "32 bytes claimed, 2 left"),
            (&[0x35, 0x80], "1 bytes claimed, 0 left"),
            (&[0x3e, 0], "no type 14"),
            (&[0x3c; 200], "structs within one another"),
            (&[0x39; 200], "within one another"),
        ] {
            let error = checked(metadata).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        assert!(checked(&[0]).is_ok());
    }
}
