//! The header: `"GGUF"`, version, counts, metadata, the place of each tensor.

use super::Format;
use embral_types::{Error, ErrorKind, Result};
use std::{collections::BTreeMap, ops::Range};

/// Where the values of a tensor begin, unless the file says otherwise: at multiples of this.
const ALIGNMENT: u64 = 32;
/// Axes of a tensor at most, as ggml has it.
const AXES: u32 = 4;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer of any width.
    Integer(i128),
    /// A float of either width.
    Float(f64),
    /// A flag.
    Flag(bool),
    /// UTF-8 text.
    Text(String),
    /// Several values of one type.
    List(List),
}

/// Several values of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum List {
    /// Integers of any width.
    Integers(Vec<i64>),
    /// Floats of either width.
    Floats(Vec<f32>),
    /// Flags.
    Flags(Vec<bool>),
    /// UTF-8 texts.
    Texts(Vec<String>),
}

impl Value {
    /// What it is, for errors.
    pub fn describe(&self) -> String {
        match self {
            Self::Integer(n) => n.to_string(),
            Self::Float(x) => x.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::List(List::Integers(all)) => format!("{} integers", all.len()),
            Self::List(List::Floats(all)) => format!("{} floats", all.len()),
            Self::List(List::Flags(all)) => format!("{} flags", all.len()),
            Self::List(List::Texts(all)) => format!("{} texts", all.len()),
        }
    }
}

/// Where a tensor lies.
#[derive(Debug)]
pub(super) struct Entry {
    /// Outermost axis first.
    pub(super) shape: Vec<usize>,
    /// The code of a format that is not done.
    pub(super) format: std::result::Result<Format, u32>,
    pub(super) range: Range<usize>,
}

#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Entry>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Header> {
    let mut reader = Reader { bytes, at: 0 };
    let magic = reader.take(4, "the magic number")?;
    if magic != b"GGUF" {
        return Err(malformed(format!(
            "expected a file that begins with \"GGUF\", found {:?}",
            magic.escape_ascii().to_string()
        )));
    }
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        let order = if version.swap_bytes() <= 3 { " (the file is of a big-endian machine)" } else { "" };
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("expected GGUF version 2 or 3, found {version}{order}"),
        ));
    }
    let tensors = reader.count("the number of tensors", 8 + 4 + 4 + 8)?;
    let values = reader.count("the number of metadata values", 8 + 4 + 1)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..values {
        let key = reader.text("a metadata key")?;
        let kind = reader.u32(&key)?;
        let value = reader.value(kind, &key)?;
        if metadata.contains_key(&key) {
            return Err(malformed(format!("the metadata has {key:?} twice")));
        }
        metadata.insert(key, value);
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(&Value::Integer(n)) if n > 0 && n % 8 == 0 && n <= 1 << 20 => n as u64,
        Some(other) => {
            return Err(malformed(format!(
                "general.alignment: expected a multiple of 8 up to 1048576, found {}",
                other.describe()
            )));
        }
    };
    let mut places = Vec::with_capacity(tensors);
    for _ in 0..tensors {
        places.push(reader.place()?);
    }
    let start = (reader.at as u64).next_multiple_of(alignment);
    let mut entries = BTreeMap::new();
    for place in places {
        let entry = place.entry(start, alignment, bytes.len()).map_err(|e| e.in_tensor(&*place.name))?;
        if entries.contains_key(&place.name) {
            return Err(malformed("the file has this tensor twice").in_tensor(place.name));
        }
        entries.insert(place.name, entry);
    }
    refuse_overlaps(&entries)?;
    Ok(Header { metadata, tensors: entries })
}

/// Two tensors on the same bytes would be a file that unpacks to more than it holds.
fn refuse_overlaps(entries: &BTreeMap<String, Entry>) -> Result<()> {
    let mut ranges: Vec<_> = entries.iter().filter(|(_, e)| !e.range.is_empty()).collect();
    ranges.sort_by_key(|(_, e)| e.range.start);
    for pair in ranges.windows(2) {
        let [(first, a), (second, b)] = pair else { continue };
        if a.range.end > b.range.start {
            return Err(malformed(format!("tensors {first} and {second} lie on the same bytes")));
        }
    }
    Ok(())
}

/// The place of a tensor as the file states it.
struct Place {
    name: String,
    /// Innermost axis first.
    axes: Vec<u64>,
    format: u32,
    offset: u64,
}

impl Place {
    fn entry(&self, start: u64, alignment: u64, file: usize) -> Result<Entry> {
        if !self.offset.is_multiple_of(alignment) {
            return Err(malformed(format!("expected an offset that {alignment} divides, found {}", self.offset)));
        }
        let values = self.axes.iter().try_fold(1_u64, |n, &axis| n.checked_mul(axis));
        let format = Format::of(self.format).ok_or(self.format);
        let length = match format {
            // Its size is not known, and it is not read.
            Err(_) => Some(0),
            Ok(format) => {
                let (block, bytes) = format.block();
                let row = self.axes[0];
                if !row.is_multiple_of(block as u64) {
                    return Err(malformed(format!(
                        "expected rows of a multiple of {block} values in {}, found {row}",
                        format.name()
                    )));
                }
                values.and_then(|n| (n / block as u64).checked_mul(bytes as u64))
            }
        };
        let first = start.checked_add(self.offset);
        let end = first.zip(length).and_then(|(first, length)| first.checked_add(length));
        match first.zip(end) {
            Some((first, end)) if end <= file as u64 => {
                let shape = self.axes.iter().rev().map(|&axis| axis as usize).collect();
                Ok(Entry { shape, format, range: first as usize..end as usize })
            }
            _ => Err(malformed(format!(
                "expected a tensor of shape {:?} at byte {} within the file of {file} bytes: the file is cut short or damaged",
                self.axes, self.offset
            ))),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| {
            malformed(format!(
                "expected {len} bytes of {what} at byte {}, found {}: the file is cut short",
                self.at,
                rest.len()
            ))
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of things that take at least `least` bytes each.
    fn count(&mut self, what: &str, least: usize) -> Result<usize> {
        let count = self.u64(what)?;
        let room = (self.bytes.len() - self.at) / least;
        if count > room as u64 {
            return Err(malformed(format!("{what}: the rest of the file holds at most {room}, found {count}")));
        }
        Ok(count as usize)
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let len = self.count(what, 1)?;
        let text = std::str::from_utf8(self.take(len, what)?);
        text.map(str::to_owned).map_err(|e| malformed(format!("{what}: expected UTF-8, found {e}")))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value> {
        Ok(match kind {
            0..=5 | 10 | 11 => Value::Integer(self.integer(kind, key)?),
            6 | 12 => Value::Float(self.float(kind, key)?),
            7 => Value::Flag(self.flag(key)?),
            8 => Value::Text(self.text(key)?),
            9 => Value::List(self.list(key)?),
            other => return Err(malformed(format!("{key}: expected a type from 0 to 12, found {other}"))),
        })
    }

    fn integer(&mut self, kind: u32, key: &str) -> Result<i128> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array(key)?).into(),
            1 => i8::from_le_bytes(self.array(key)?).into(),
            2 => u16::from_le_bytes(self.array(key)?).into(),
            3 => i16::from_le_bytes(self.array(key)?).into(),
            4 => u32::from_le_bytes(self.array(key)?).into(),
            5 => i32::from_le_bytes(self.array(key)?).into(),
            10 => u64::from_le_bytes(self.array(key)?).into(),
            _ => i64::from_le_bytes(self.array(key)?).into(),
        })
    }

    fn float(&mut self, kind: u32, key: &str) -> Result<f64> {
        Ok(if kind == 6 { f32::from_le_bytes(self.array(key)?).into() } else { f64::from_le_bytes(self.array(key)?) })
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        match self.array(key)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(malformed(format!("{key}: expected a flag of 0 or 1, found {other}"))),
        }
    }

    fn list(&mut self, key: &str) -> Result<List> {
        let kind = self.u32(key)?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            other => {
                return Err(malformed(format!(
                    "{key}: expected a list of numbers, flags or texts, found type {other}"
                )));
            }
        };
        let count = self.count(key, least)?;
        Ok(match kind {
            6 | 12 => List::Floats(self.all(count, |r| Ok(r.float(kind, key)? as f32))?),
            7 => List::Flags(self.all(count, |r| r.flag(key))?),
            8 => List::Texts(self.all(count, |r| r.text(key))?),
            _ => List::Integers(self.all(count, |r| {
                let n = r.integer(kind, key)?;
                i64::try_from(n).map_err(|_| malformed(format!("{key}: expected integers below 2^63, found {n}")))
            })?),
        })
    }

    fn all<T>(&mut self, count: usize, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        (0..count).map(|_| one(self)).collect()
    }

    fn place(&mut self) -> Result<Place> {
        let name = self.text("a tensor name")?;
        let axes = self.u32(&name)?;
        if !(1..=AXES).contains(&axes) {
            return Err(malformed(format!("expected 1 to {AXES} axes, found {axes}")).in_tensor(name));
        }
        let axes = self.all(axes as usize, |r| r.u64("an axis"))?;
        if axes.contains(&0) {
            return Err(malformed(format!("expected axes of at least 1, found {axes:?}")).in_tensor(name));
        }
        let format = self.u32(&name)?;
        let offset = self.u64(&name)?;
        Ok(Place { name, axes, format, offset })
    }
}

/// The name of a format that is not read.
pub(super) fn format_name(code: u32) -> String {
    let name = match code {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("the format with number {code}"),
    };
    name.to_owned()
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message.into())
}
