//! Tensors as PyTorch saves them (`torch.save` of a state dict): a zip of a pickle and one file a storage.
//!
//! A pickle is a program. Here only what a state dict of plain tensors is written with is understood, and nothing is called: any other
//! name and any other opcode is refused. The storages stay where they are in the file, which is mapped.

mod pickle;

use crate::{FileBytes, Weights};
use embral_types::{Dtype, Error, ErrorKind, Result, Tensor, guarded};
use std::{
    collections::BTreeMap,
    io::Cursor,
    ops::Range,
    path::{Path, PathBuf},
};
use zip::{CompressionMethod, ZipArchive};

/// Files in the zip: a pickle, the version, and a storage a tensor.
const MOST_FILES: usize = 1 << 16;
/// How the files of PyTorch before 1.6 begin, which are no zips: the pickle of a number.
const BEFORE_ZIPS: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The tensors of one file.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    bytes: FileBytes,
    tensors: BTreeMap<String, Place>,
}

/// A tensor, and where its values lie in the file.
#[derive(Debug)]
struct Place {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

impl TorchFile {
    /// Maps a file.
    ///
    /// # Errors
    /// Where it is not there, or holds anything but a state dict of plain tensors.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(path.to_owned(), FileBytes::open(path)?)
    }

    /// Reads a file that is in memory; `name` stands in errors.
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self> {
        Self::of(name.into(), bytes.to_vec().into())
    }

    fn of(path: PathBuf, bytes: FileBytes) -> Result<Self> {
        let tensors = guarded(|| read(&bytes)).unwrap_or_else(|| Err(malformed("the zip is damaged")));
        Ok(Self { tensors: tensors.map_err(|e| e.in_file(&path))?, bytes, path })
    }
}

fn read(bytes: &[u8]) -> Result<BTreeMap<String, Place>> {
    if bytes.starts_with(BEFORE_ZIPS) {
        let message = "expected a zip, as PyTorch writes it from 1.6 on, found the form before it";
        return Err(Error::new(ErrorKind::Unsupported, message).hint("save the model again, as safetensors"));
    }
    let broken = |e: zip::result::ZipError| malformed(format!("no zip as PyTorch writes it: {e}")).because(e);
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if zip.len() > MOST_FILES {
        return Err(malformed(format!("expected at most {MOST_FILES} files in the zip, found {}", zip.len())));
    }
    let names: Vec<String> = zip.file_names().filter_map(|name| name.ok().map(std::borrow::Cow::into_owned)).collect();
    let program = names.iter().find(|name| name.ends_with("/data.pkl"));
    let program = program.ok_or_else(|| malformed("expected a data.pkl in the zip, found none"))?;
    let root = program.trim_end_matches("data.pkl").to_owned();
    let order = format!("{root}byteorder");
    if names.contains(&order) && &bytes[entry(&mut zip, &order, bytes.len())?] != b"little" {
        return Err(Error::new(ErrorKind::Unsupported, "expected little-endian numbers, found others")
            .hint("save the model again, as safetensors"));
    }
    let dict = pickle::state_dict(&bytes[entry(&mut zip, program, bytes.len())?])?;
    let mut storages: BTreeMap<String, Range<usize>> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, found) in dict {
        let pickle::Found { dtype, storage, offset, shape } = found;
        let storage = match storages.get(&storage) {
            Some(range) => range.clone(),
            None => {
                let path = format!("{root}data/{storage}");
                let range = entry(&mut zip, &path, bytes.len()).map_err(|e| e.in_tensor(&name))?;
                storages.insert(storage, range.clone());
                range
            }
        };
        let values = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let range = values.and_then(|values| {
            let from = storage.start.checked_add(offset.checked_mul(dtype.size())?)?;
            Some(from..from.checked_add(values.checked_mul(dtype.size())?)?).filter(|range| range.end <= storage.end)
        });
        let range = range.ok_or_else(|| {
            let message =
                format!("expected {dtype} of shape {shape:?} from value {offset} on, which its storage does not hold");
            malformed(message).in_tensor(&name)
        })?;
        tensors.insert(name, Place { dtype, shape, bytes: range });
    }
    Ok(tensors)
}

/// Where one file of the zip lies, which is stored as it is, among `most` bytes.
fn entry(zip: &mut ZipArchive<Cursor<&[u8]>>, name: &str, most: usize) -> Result<Range<usize>> {
    let file = zip.by_name(name).map_err(|e| malformed(format!("{name}: {e}")).because(e))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(malformed(format!("{name}: expected a file that is stored as it is, found it compressed")));
    }
    let place = || {
        let start = usize::try_from(file.data_start()?).ok()?;
        let end = start.checked_add(usize::try_from(file.size()).ok()?)?;
        (end <= most).then_some(start..end)
    };
    place().ok_or_else(|| malformed(format!("{name}: expected {} bytes, which the zip does not have", file.size())))
}

impl Weights for TorchFile {
    fn get(&self, name: &str) -> Result<Tensor<'_>> {
        let place = self.tensors.get(name).ok_or_else(|| {
            Error::new(ErrorKind::Mismatch, "the tensor is missing").in_file(&self.path).in_tensor(name)
        })?;
        Ok(Tensor::new(place.dtype, place.shape.clone(), &self.bytes[place.bytes.clone()]))
    }

    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn file(&self) -> &Path {
        &self.path
    }
}

/// The number format of a storage class of PyTorch.
fn storage_class(name: &str) -> Option<Dtype> {
    Some(match name {
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "DoubleStorage" => Dtype::F64,
        // Positions and masks, which a model computes for itself.
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "CharStorage" => Dtype::I8,
        "ByteStorage" | "BoolStorage" => Dtype::U8,
        _ => return None,
    })
}
