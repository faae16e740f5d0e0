//! Who may ask: keys, compared in the same time whatever is wrong with them.

use crate::limit::Rates;
use embral::queue::Tenant;
use embral_types::{Error, ErrorKind, Result};
use ring::digest::{SHA256, digest};
use std::path::Path;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// The keys that are let in; none: everybody is.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    all: Vec<Key>,
}

/// A key. What is kept of it is its hash: neither a dump of memory nor a log shows it.
pub(crate) struct Key {
    /// What logs and metrics call its holder.
    pub(crate) name: String,
    hash: [u8; 32],
    /// Its share of the machine while others are busy as well.
    pub(crate) weight: f64,
    pub(crate) rates: Rates,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("weight", &self.weight).finish_non_exhaustive()
    }
}

fn hash(key: &[u8]) -> [u8; 32] {
    digest(&SHA256, key).as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

impl Keys {
    /// The keys of a file, one a line, and one besides.
    pub(crate) fn open(file: Option<&Path>, one: Option<&str>, rates: Rates) -> Result<Self> {
        let mut keys = Self::default();
        if let Some(file) = file {
            let text = std::fs::read_to_string(file).map_err(|e| Error::io("cannot read the keys", file, e))?;
            keys = Self::parse(&text, rates).map_err(|e| e.in_file(file))?;
        }
        if let Some(one) = one.map(str::trim).filter(|one| !one.is_empty()) {
            keys.push("default", one, 1.0, rates)?;
        }
        Ok(keys)
    }

    fn parse(text: &str, rates: Rates) -> Result<Self> {
        let mut keys = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            let wrong = |expected: &str| {
                let message = format!("line {}: expected {expected}", number + 1);
                Error::new(ErrorKind::InvalidInput, message)
                    .hint("a line is: NAME KEY [weight=W] [requests-per-minute=N] [tokens-per-minute=N]")
            };
            let key = words.next().ok_or_else(|| wrong("a name and a key"))?;
            let (mut weight, mut rates) = (1.0, rates);
            for word in words {
                let number = |value: &str| value.parse::<u32>().ok().filter(|n| *n > 0);
                match word.split_once('=') {
                    Some(("weight", value)) => {
                        let value = value.parse::<f64>().ok().filter(|w| w.is_finite() && *w > 0.0);
                        weight = value.ok_or_else(|| wrong("a weight above 0"))?;
                    }
                    Some(("requests-per-minute", value)) => {
                        rates.requests = Some(number(value).ok_or_else(|| wrong("requests-per-minute of 1 or more"))?);
                    }
                    Some(("tokens-per-minute", value)) => {
                        rates.tokens = Some(number(value).ok_or_else(|| wrong("tokens-per-minute of 1 or more"))?);
                    }
                    _ => return Err(wrong("weight=, requests-per-minute= or tokens-per-minute=")),
                }
            }
            keys.push(name, key, weight, rates)?;
        }
        if keys.all.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "expected keys, found none: nobody would be let in"));
        }
        Ok(keys)
    }

    fn push(&mut self, name: &str, key: &str, weight: f64, rates: Rates) -> Result<()> {
        let hash = hash(key.as_bytes());
        if self.all.iter().any(|known| known.hash == hash) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("the key of {name} is there twice")));
        }
        self.all.push(Key { name: name.to_owned(), hash, weight, rates });
        Ok(())
    }

    /// Whether everybody is let in.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tenant, &Key)> {
        (1..).map(Tenant).zip(&self.all)
    }

    /// Whose key this is. All keys are looked at, each hash whole, so that the time says nothing of how near it was.
    pub(crate) fn find(&self, key: &[u8]) -> Option<(Tenant, &Key)> {
        let hash = hash(key);
        let mut found = 0_u64;
        for (number, key) in (1_u64..).zip(&self.all) {
            let same: Choice = key.hash.ct_eq(&hash);
            found = u64::conditional_select(&found, &number, same);
        }
        let key = usize::try_from(found).ok()?.checked_sub(1).and_then(|at| self.all.get(at))?;
        Some((Tenant(found), key))
    }
}

/// The key of an `Authorization` header: `Bearer KEY`, the scheme in any case.
pub(crate) fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_themselves_alone() {
        let text = "# name key\nann s3cret weight=2\nbob other requests-per-minute=5 tokens-per-minute=9 # slow\n\n";
        let keys = Keys::parse(text, Rates::default()).unwrap();
        let (tenant, key) = keys.find(b"s3cret").unwrap();
        assert_eq!((tenant, key.name.as_str(), key.weight), (Tenant(1), "ann", 2.0));
        let (tenant, key) = keys.find(b"other").unwrap();
        assert_eq!((tenant, key.rates.requests, key.rates.tokens), (Tenant(2), Some(5), Some(9)));
        for bad in [&b""[..], b"s3cre", b"s3cret ", b"S3CRET", b"ann"] {
            assert!(keys.find(bad).is_none());
        }
        assert!(!format!("{keys:?}").contains("s3cret"));
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        for (text, named) in [
            ("", "none"),
            ("ann", "line 1"),
            ("a b\nc d weight=0", "line 2"),
            ("a b speed=1", "weight="),
            ("a b requests-per-minute=0", "requests-per-minute"),
            ("a same\nb same", "twice"),
        ] {
            let error = Keys::parse(text, Rates::default()).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        for bad in [&b"Basic abc"[..], b"abc", b"Bearer", b""] {
            assert_eq!(bearer(bad), None);
        }
    }
}
