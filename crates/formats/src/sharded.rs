//! A model in several files under one index: `model.safetensors.index.json`, or `pytorch_model.bin.index.json`.

use crate::Weights;
use embral_types::{Error, ErrorKind, Result, Tensor};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Component, Path, PathBuf},
};

/// The largest index; that of a model of 600 GB has a few megabytes.
const MAX_INDEX: u64 = 64 << 20;

/// Which shard each tensor is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIndex {
    /// Tensor name to file name; file names have no folder in them.
    pub weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads an index; `name` stands in errors.
    pub fn from_bytes(name: &Path, bytes: &[u8]) -> Result<Self> {
        let malformed = |message: String| {
            Error::new(ErrorKind::Malformed, message).in_file(name).hint("download or export the file again")
        };
        let raw: RawIndex =
            serde_json::from_slice(bytes).map_err(|e| malformed(format!("not a shard index: {e}")).because(e))?;
        for (tensor, shard) in &raw.weight_map.0 {
            let mut parts = Path::new(shard).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(malformed(format!("expected the name of a file beside the index, found {shard:?}"))
                    .in_tensor(tensor));
            }
        }
        Ok(Self { weight_map: raw.weight_map.0 })
    }
}

/// A model in several files.
pub struct Sharded {
    index: PathBuf,
    shards: Vec<Box<dyn Weights>>,
    /// Tensor name to shard.
    places: BTreeMap<String, usize>,
}

impl Sharded {
    /// Reads an index and maps its shards, which lie beside it.
    pub fn open(index: &Path) -> Result<Self> {
        let size = fs::metadata(index).map_err(|e| Error::io("cannot read", index, e))?.len();
        if size > MAX_INDEX {
            let message = format!("expected an index of at most {MAX_INDEX} bytes, found {size}");
            return Err(Error::new(ErrorKind::Malformed, message).in_file(index));
        }
        let bytes = fs::read(index).map_err(|e| Error::io("cannot read", index, e))?;
        let map = ShardIndex::from_bytes(index, &bytes)?.weight_map;

        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shards: Vec<Box<dyn Weights>> = Vec::new();
        let mut places = BTreeMap::new();
        for (tensor, name) in &map {
            let number = match numbers.get(name.as_str()) {
                Some(&number) => number,
                None => {
                    let shard = crate::open_file(&index.with_file_name(name)).map_err(|e| {
                        e.hint(format!("{} names this shard: download the model again", index.display()))
                    })?;
                    shards.push(shard);
                    numbers.insert(name, shards.len() - 1);
                    shards.len() - 1
                }
            };
            if !shards[number].contains(tensor) {
                let message =
                    format!("expected the tensor in {name}, as the index says, found none of that name there");
                return Err(Error::new(ErrorKind::Mismatch, message).in_file(index).in_tensor(tensor));
            }
            places.insert(tensor.clone(), number);
        }
        Ok(Self { index: index.to_owned(), shards, places })
    }
}

impl Weights for Sharded {
    fn get(&self, name: &str) -> Result<Tensor<'_>> {
        match self.places.get(name) {
            Some(&shard) => self.shards[shard].get(name),
            None => Err(Error::new(ErrorKind::Mismatch, "the tensor is missing").in_file(&self.index).in_tensor(name)),
        }
    }

    fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    fn file(&self) -> &Path {
        &self.index
    }
}

#[derive(Deserialize)]
struct RawIndex {
    weight_map: UniqueMap,
}

/// A map in which a name that comes twice is an error.
struct UniqueMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UniqueVisitor;

        impl<'de> Visitor<'de> for UniqueVisitor {
            type Value = UniqueMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap, A::Error> {
                let mut names = BTreeMap::new();
                while let Some((name, file)) = map.next_entry::<String, String>()? {
                    if let Some(first) = names.get(&name) {
                        return Err(A::Error::custom(format_args!("tensor {name} is in {first} and in {file}")));
                    }
                    names.insert(name, file);
                }
                Ok(UniqueMap(names))
            }
        }

        deserializer.deserialize_map(UniqueVisitor)
    }
}
