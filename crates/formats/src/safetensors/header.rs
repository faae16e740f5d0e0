//! The header of a safetensors file, checked against the file's size.

use embral_types::{Dtype, Error, ErrorKind, Result};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, ops::Range};

/// The largest header, as in the reference reader.
const MAX_HEADER: u64 = 100_000_000;

/// Where a tensor's values are.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// `Err` holds the name of a format that is known to the file format and not to this reader.
    pub(super) dtype: Result<Dtype, String>,
    pub(super) shape: Vec<usize>,
    /// Bytes of the file.
    pub(super) range: Range<usize>,
}

pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, Entry>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Formats of the specification with their bits.
const FORMATS: &[(&str, usize)] = &[
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

fn supported(name: &str) -> Option<Dtype> {
    Some(match name {
        "F64" => Dtype::F64,
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        "I64" => Dtype::I64,
        "I32" => Dtype::I32,
        "I8" => Dtype::I8,
        "U8" => Dtype::U8,
        _ => return None,
    })
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message).hint("download or export the file again")
}

/// Reads the header of a whole file.
pub(super) fn parse(file: &[u8]) -> Result<Header> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(malformed(format!("expected at least 8 bytes, found {}: the file is cut off", file.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(malformed(format!("expected a header of at most {MAX_HEADER} bytes, found {length}")));
    }
    let Some((header, values)) = rest.split_at_checked(length as usize) else {
        return Err(malformed(format!(
            "expected a header of {length} bytes, found {}: the file is cut off",
            rest.len()
        )));
    };
    let raw: RawHeader = serde_json::from_slice(header)
        .map_err(|e| malformed(format!("the header is not what it must be: {e}")).because(e))?;
    let mut tensors = raw.tensors;
    tensors.sort_by_key(|(_, t)| t.data_offsets);

    let start_of_values = 8 + header.len();
    let mut end = 0;
    let mut entries = BTreeMap::new();
    for (name, tensor) in tensors {
        let entry = check(&tensor, end, values.len(), start_of_values).map_err(|e| e.in_tensor(&name))?;
        end = tensor.data_offsets.1;
        if entries.insert(name.clone(), entry).is_some() {
            return Err(malformed("the header has two tensors of this name").in_tensor(name));
        }
    }
    if end != values.len() {
        return Err(malformed(format!("expected {end} bytes of values after the header, found {}", values.len())));
    }
    Ok(Header { tensors: entries, metadata: raw.metadata })
}

fn check(tensor: &RawTensor, previous_end: usize, available: usize, start_of_values: usize) -> Result<Entry> {
    let (begin, end) = tensor.data_offsets;
    let shape = &tensor.shape;
    let Some(&(_, bits)) = FORMATS.iter().find(|(name, _)| *name == tensor.dtype) else {
        return Err(malformed(format!("expected a format such as F32 or BF16, found {:?}", tensor.dtype)));
    };
    let values = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let Some(bits) = values.and_then(|n| n.checked_mul(bits)) else {
        return Err(malformed(format!("the shape {shape:?} of {} has no size that a computer can hold", tensor.dtype)));
    };
    if end < begin || end > available {
        return Err(malformed(format!(
            "expected offsets that rise within the {available} bytes of values, found {begin} to {end}: the file is cut off or \
             damaged"
        )));
    }
    if begin != previous_end {
        let what = if begin < previous_end { "overlap" } else { "leave a gap" };
        return Err(malformed(format!(
            "expected values from byte {previous_end}, where the tensor before it ends, found {begin}: tensors {what}"
        )));
    }
    if !bits.is_multiple_of(8) || end - begin != bits / 8 {
        return Err(malformed(format!(
            "expected {} bytes for {} of shape {shape:?}, found {}",
            bits.div_ceil(8),
            tensor.dtype,
            end - begin
        )));
    }
    Ok(Entry {
        dtype: supported(&tensor.dtype).ok_or_else(|| tensor.dtype.clone()),
        shape: shape.clone(),
        range: start_of_values + begin..start_of_values + end,
    })
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header as a list, in which two tensors of one name are still two.
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut metadata = None;
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if metadata.replace(map.next_value()?).is_some() {
                            return Err(A::Error::custom("two entries __metadata__"));
                        }
                    } else {
                        let tensor =
                            map.next_value().map_err(|e| A::Error::custom(format_args!("tensor {name}: {e}")))?;
                        tensors.push((name, tensor));
                    }
                }
                Ok(RawHeader { tensors, metadata: metadata.unwrap_or_default() })
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}
