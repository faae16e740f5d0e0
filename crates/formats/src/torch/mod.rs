//! A few tensors as PyTorch saves them (`torch.save` of a state dict): a zip of a pickle and one file a storage.
//!
//! A pickle is a program. Here only what a state dict of plain tensors is written with is understood, and nothing is called: any other
//! name, any other opcode and anything larger than a layer's state dict is refused. Whole models are not read in this form.

mod pickle;

use crate::Weights;
use embral_types::{Dtype, Error, ErrorKind, Result, Tensor, guarded};
use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
    path::{Path, PathBuf},
};
use zip::{CompressionMethod, ZipArchive};

/// The largest file: a layer of 8,192 by 8,192 values in 32 bits.
const MAX_FILE: u64 = 256 << 20;
/// Files in the zip: a pickle, the version, and a storage a tensor.
const MOST_FILES: usize = 64;

/// The tensors of one file, in memory.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor<'static>>,
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

impl TorchFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it is not there, is larger than a layer, or holds anything but a state dict of plain tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let size = fs::metadata(path).map_err(|e| Error::io("cannot read", path, e))?.len();
        if size > MAX_FILE {
            return Err(malformed(format!("expected at most {MAX_FILE} bytes, found {size}")).in_file(path));
        }
        let bytes = fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
        Self::from_bytes(path, &bytes)
    }

    /// Reads a file that is in memory; `name` stands in errors.
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self> {
        let path = name.into();
        let tensors = guarded(|| read(bytes)).unwrap_or_else(|| Err(malformed("the zip is damaged")));
        Ok(Self { tensors: tensors.map_err(|e| e.in_file(&path))?, path })
    }
}

fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor<'static>>> {
    let broken = |e: zip::result::ZipError| malformed(format!("no zip as PyTorch writes it: {e}")).because(e);
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if zip.len() > MOST_FILES {
        return Err(malformed(format!("expected at most {MOST_FILES} files in the zip, found {}", zip.len())));
    }
    let names: Vec<String> = zip.file_names().filter_map(|name| name.ok().map(std::borrow::Cow::into_owned)).collect();
    let program = names.iter().find(|name| name.ends_with("/data.pkl"));
    let program = program.ok_or_else(|| malformed("expected a data.pkl in the zip, found none"))?;
    let root = program.trim_end_matches("data.pkl").to_owned();
    let dict = pickle::state_dict(&entry(&mut zip, program, bytes.len())?)?;
    let mut storages: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    let mut held = 0;
    for (name, found) in dict {
        let pickle::Found { dtype, storage, offset, shape } = found;
        if !storages.contains_key(&storage) {
            let path = format!("{root}data/{storage}");
            let data = entry(&mut zip, &path, bytes.len()).map_err(|e| e.in_tensor(&name))?;
            storages.insert(storage.clone(), data);
        }
        let values = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let range = values.and_then(|values| {
            let from = offset.checked_mul(dtype.size())?;
            Some(from..from.checked_add(values.checked_mul(dtype.size())?)?)
        });
        let data = range.and_then(|range| storages[&storage].get(range)).ok_or_else(|| {
            let message =
                format!("expected {dtype} of shape {shape:?} from value {offset} on, which its storage does not hold");
            malformed(message).in_tensor(&name)
        })?;
        held += data.len();
        if held > bytes.len() {
            return Err(malformed("expected a storage of its own for each tensor"));
        }
        tensors.insert(name, Tensor::new(dtype, shape, data.to_vec()));
    }
    Ok(tensors)
}

/// One file of the zip, stored as it is.
fn entry(zip: &mut ZipArchive<Cursor<&[u8]>>, name: &str, most: usize) -> Result<Vec<u8>> {
    let file = zip.by_name(name).map_err(|e| malformed(format!("{name}: {e}")).because(e))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(malformed(format!("{name}: expected a file that is stored as it is, found it compressed")));
    }
    let mut data = Vec::new();
    file.take(most as u64).read_to_end(&mut data).map_err(|e| malformed(format!("{name}: {e}")).because(e))?;
    Ok(data)
}

impl Weights for TorchFile {
    fn get(&self, name: &str) -> Result<Tensor<'_>> {
        let tensor = self.tensors.get(name).ok_or_else(|| {
            Error::new(ErrorKind::Mismatch, "the tensor is missing").in_file(&self.path).in_tensor(name)
        })?;
        Ok(Tensor::new(tensor.dtype(), tensor.shape().to_vec(), tensor.bytes()))
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
        _ => return None,
    })
}
