//! Where vectors are kept, as typed and as resolved.

use crate::failure::usage;
use anyhow::Result;
use embral::{cache::VectorCache, store::Environment};
use std::{path::PathBuf, str::FromStr};

/// The variable that says what `--vector-cache` says.
pub(crate) const VARIABLE: &str = "EMBRAL_VECTOR_CACHE";

/// Where vectors are kept, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// Nowhere.
    Off,
    /// In memory, for this run.
    Memory,
    /// In the user's cache folder.
    On,
    /// In this folder.
    Folder(PathBuf),
}

impl FromStr for Where {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        Ok(match typed {
            "" => return Err("expected on, memory, off or a folder".to_owned()),
            "off" | "0" | "no" | "false" => Self::Off,
            "on" | "1" | "yes" | "true" => Self::On,
            "memory" => Self::Memory,
            folder => Self::Folder(folder.into()),
        })
    }
}

/// A number of bytes as a person writes it: `500MB`, `2GiB`, `100000`.
pub(crate) fn bytes(typed: &str) -> Result<u64, String> {
    let split = typed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(typed.len());
    let (number, unit) = typed.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(format!("{typed:?} is no size: expected such as 500MB or 2GiB")),
    };
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((number * factor as f64) as u64),
        _ => Err(format!("{typed:?} is no size: expected such as 500MB or 2GiB")),
    }
}

/// The cache of a run: what is typed, else what the variable says, else none.
pub(crate) fn resolve(typed: Option<&Where>, limit: Option<u64>) -> Result<Option<VectorCache>> {
    let environment = Environment::of_process()?;
    let place = match (typed, &environment.vector_cache) {
        (Some(typed), _) => typed.clone(),
        (None, Some(value)) => value.parse().map_err(|e| usage(format!("{VARIABLE}: {e}")))?,
        (None, None) => Where::Off,
    };
    let folder = match place {
        Where::Off => return Ok(None),
        Where::Memory => None,
        Where::Folder(folder) => Some(folder),
        Where::On => match environment.vectors {
            Some(folder) => Some(folder),
            None => return Err(usage("there is no cache folder, since HOME is not set: name one with --vector-cache")),
        },
    };
    let standard = VectorCache::default();
    let disk_bytes = limit.unwrap_or(standard.disk_bytes);
    // In memory alone, the limit is that of the memory.
    let memory_bytes = match (limit, &folder) {
        (Some(limit), None) => usize::try_from(limit).unwrap_or(usize::MAX),
        _ => standard.memory_bytes,
    };
    Ok(Some(VectorCache { folder, memory_bytes, disk_bytes, report: |e| eprintln!("embral: {e}") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        let of = |typed| bytes(typed).unwrap();
        assert_eq!(
            [of("0"), of("17"), of("500MB"), of("1.5 GiB"), of("2g")],
            [0, 17, 500_000_000, 3 << 29, 2_000_000_000]
        );
        for bad in ["", "MB", "1TBs", "-1", "1.2.3"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_no_folders() {
        assert_eq!("on".parse(), Ok(Where::On));
        assert_eq!("0".parse(), Ok(Where::Off));
        assert_eq!("memory".parse(), Ok(Where::Memory));
        assert_eq!("./on".parse(), Ok(Where::Folder("./on".into())));
        assert!("".parse::<Where>().is_err());
    }
}
