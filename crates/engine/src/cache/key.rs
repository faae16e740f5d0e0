//! What a vector depends on, as 32 bytes.

use crate::{Config, ModelInfo, prompt::Told};
use embral_types::{Error, Result};
use ring::digest::{Context, SHA256};
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// A SHA-256: texts may come from anybody, and whoever could make two with one key would be given the vector of the other.
pub(crate) type Key = [u8; 32];

/// The form of the keys: counted up where the same model gives other vectors than before.
const FORM: &str = "embral vectors 1";
/// How far below a model's folder its files lie, such as `2_Dense/model.safetensors`.
const DEPTH: usize = 2;
/// Files of a model's folder that no model is read from. Everything else counts, so that a format that is read one day is not forgotten.
const IGNORED: [&str; 10] = ["md", "png", "jpg", "pt", "ckpt", "h5", "msgpack", "ot", "py", "lock"];

/// A hash over fields, each behind its length, so that no two lists of fields are one list of bytes.
struct Fields(Context);

impl Fields {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn add(&mut self, field: &[u8]) {
        self.0.update(&(field.len() as u64).to_le_bytes());
        self.0.update(field);
    }

    fn finish(self) -> Key {
        self.0.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes")
    }
}

/// The key of a model of this machine with its settings. `contents` stands for the model itself.
///
/// Every field of the configuration is part of it but those that are known to change no vector.
pub(crate) fn of_config(contents: &[&[u8]], info: &ModelInfo, config: &Config) -> Key {
    let Config { batch_tokens, warm_up, packed_cache, .. } = Config::default();
    let mut rest = Config {
        model: None,
        revision: None,
        offline: false,
        threads: None,
        batch_tokens,
        warm_up,
        packed_cache,
        vector_cache: None,
        #[cfg(feature = "remote")]
        remote: crate::remote::Options::default(),
        ..config.clone()
    };
    // Resolved, so that a limit that is named and is the model's own is the same.
    rest.dims = Some(info.dimensions);
    rest.pooling = Some(info.pooling);
    rest.normalize = Some(info.normalize);
    rest.max_tokens = Some(info.max_tokens);
    let cpu = crate::cpu();
    let mut fields = Fields::new();
    fields.add(FORM.as_bytes());
    fields.add(env!("CARGO_PKG_VERSION").as_bytes());
    fields.add(format!("{} {:?} {:?}", cpu.isa, cpu.bf16, cpu.int8).as_bytes());
    fields.add(format!("{rest:?}").as_bytes());
    contents.iter().for_each(|part| fields.add(part));
    fields.finish()
}

/// The key of a model behind a server. What computes it is not this version nor this machine: vectors that were paid for outlive both.
#[cfg(feature = "remote")]
pub(crate) fn of_server(identity: &[&[u8]], config: &Config) -> Key {
    let mut fields = Fields::new();
    fields.add(FORM.as_bytes());
    identity.iter().for_each(|part| fields.add(part));
    fields.add(format!("{:?} {:?} {}", config.dims, config.normalize, config.truncation).as_bytes());
    fields.finish()
}

/// The key of a text.
pub(crate) fn of_text(model: &Key, told: Told<'_>, text: &str) -> Key {
    let mut fields = Fields::new();
    fields.add(model);
    fields.add(told.name.unwrap_or_default().as_bytes());
    fields.add(told.text.as_bytes());
    fields.add(text.as_bytes());
    fields.finish()
}

/// The contents of a model's folder or file: XXH3 (128 bits) over names and bytes. all-MiniLM-L6-v2 takes 10 to 20 ms.
pub(crate) fn of_files(model: &Path) -> Result<[u8; 16]> {
    let mut files = Vec::new();
    gather(model, DEPTH, &mut files)?;
    files.sort();
    let mut hasher = twox_hash::xxhash3_128::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let failed = |e| Error::io("cannot read", &path, e);
        let name = path.strip_prefix(model).unwrap_or(&path).as_os_str().as_encoded_bytes();
        let mut file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        hasher.write(&(name.len() as u64).to_le_bytes());
        hasher.write(name);
        hasher.write(&size.to_le_bytes());
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                n => hasher.write(&buffer[..n]),
            }
        }
    }
    Ok(hasher.finish_128().to_le_bytes())
}

fn gather(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let failed = |e| Error::io("cannot read", path, e);
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let ignored = path.extension().is_some_and(|e| IGNORED.iter().any(|i| e.eq_ignore_ascii_case(i)));
        if hidden || ignored || path.is_dir() && depth == 0 {
            continue;
        }
        gather(&path, depth.saturating_sub(1), files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_runs_into_the_next() {
        let model = [7; 32];
        let told = |text, name| Told { text, name };
        let keys = [
            of_text(&model, told("", None), "ab"),
            of_text(&model, told("a", None), "b"),
            of_text(&model, told("", Some("a")), "b"),
            of_text(&model, told("ab", None), ""),
            of_text(&[8; 32], told("", None), "ab"),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a != b), "{i}");
        }
        assert_eq!(keys[0], of_text(&model, Told::default(), "ab"));
    }

    #[test]
    fn contents_decide_and_neither_names_of_folders_nor_dates() {
        let home = tempfile::tempdir().unwrap();
        let make = |name: &str, weights: &str, readme: &str| {
            let folder = home.path().join(name);
            fs::create_dir_all(folder.join("2_Dense")).unwrap();
            fs::write(folder.join("config.json"), "{}").unwrap();
            fs::write(folder.join("README.md"), readme).unwrap();
            fs::write(folder.join("2_Dense/model.safetensors"), weights).unwrap();
            of_files(&folder).unwrap()
        };
        let first = make("a", "weights", "one");
        assert_eq!(make("b", "weights", "two"), first);
        assert_ne!(make("c", "Weights", "one"), first);
        fs::rename(home.path().join("a/config.json"), home.path().join("a/c.json")).unwrap();
        assert_ne!(of_files(&home.path().join("a")).unwrap(), first);
        assert!(of_files(&home.path().join("absent")).is_err());
    }
}
