//! JSON configuration with limits: every number is read with the range it must be in, before anything is allocated by it.

use embral_types::{Activation, Error, ErrorKind, Result};
use serde_json::{Map, Value};
use std::{fs, ops::RangeInclusive, path::Path};

/// The largest configuration file; a `tokenizer_config.json` with many added tokens has a few megabytes.
pub(crate) const MAX_FILE: u64 = 64 << 20;

/// The longest rows and lists of numbers that any known model comes near: four times the widest, ten times the deepest.
pub(crate) mod limit {
    use std::ops::RangeInclusive;

    pub(crate) const WIDTH: RangeInclusive<usize> = 1..=65_536;
    pub(crate) const LAYERS: RangeInclusive<usize> = 1..=1_000;
    pub(crate) const MLP: RangeInclusive<usize> = 1..=1_048_576;
    pub(crate) const VOCAB: RangeInclusive<usize> = 1..=10_000_000;
    pub(crate) const TOKEN: RangeInclusive<usize> = 0..=10_000_000;
    pub(crate) const POSITIONS: RangeInclusive<usize> = 1..=16_777_216;
    pub(crate) const TOKEN_TYPES: RangeInclusive<usize> = 0..=1_024;
}

pub(crate) fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

pub(crate) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

/// A JSON object; errors name the key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config<'a>(&'a Map<String, Value>);

impl<'a> Config<'a> {
    pub(crate) fn of(value: &'a Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(malformed(format!("expected an object, found {}", brief(other)))),
        }
    }

    /// The value of a key; null is as good as absent.
    pub(crate) fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, be it with null.
    pub(crate) fn states(self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn number(self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        self.optional_number(key, range)?.ok_or_else(|| malformed(format!("{key}: the number is missing")))
    }

    pub(crate) fn number_or(self, key: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize> {
        Ok(self.optional_number(key, range)?.unwrap_or(default))
    }

    pub(crate) fn optional_number(self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n));
        number.map(Some).ok_or_else(|| {
            let (low, high) = range.into_inner();
            malformed(format!("{key}: expected a whole number from {low} to {high}, found {}", brief(value)))
        })
    }

    /// A positive finite number, as f32.
    pub(crate) fn positive_or(self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().map(|v| v as f32).filter(|v| v.is_finite() && *v > 0.0);
        number.ok_or_else(|| malformed(format!("{key}: expected a positive number, found {}", brief(value))))
    }

    pub(crate) fn flag_or(self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| malformed(format!("{key}: expected true or false, found {}", brief(value))))
    }

    pub(crate) fn text(self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = value.as_str().map(Some);
        text.ok_or_else(|| malformed(format!("{key}: expected a string, found {}", brief(value))))
    }

    pub(crate) fn object(self, key: &str) -> Result<Option<Config<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Config::of(value).map(Some).map_err(|e| malformed(format!("{key}: {}", e.message())))
    }

    pub(crate) fn entries(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0.iter()
    }

    /// `key` heads that `hidden` components are cut into: their number and width.
    pub(crate) fn heads(self, key: &str, hidden: usize) -> Result<(usize, usize)> {
        let heads = self.number(key, 1..=hidden)?;
        if !hidden.is_multiple_of(heads) {
            return Err(malformed(format!("{key}: expected a divisor of hidden_size {hidden}, found {heads}")));
        }
        Ok((heads, hidden / heads))
    }

    /// The `hidden_act` of transformers.
    pub(crate) fn activation(self, key: &str, default: Activation) -> Result<Activation> {
        match self.text(key)? {
            None => Ok(default),
            Some("gelu") => Ok(Activation::GeluErf),
            Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("relu") => Ok(Activation::Relu),
            Some(other) => Err(unsupported(format!(
                "{key}: expected gelu, gelu_new, gelu_pytorch_tanh, silu or relu, found {other:?}"
            ))),
        }
    }

    /// An error where a switch that changes what the network computes is on.
    pub(crate) fn refuse_flag(self, key: &str, what: &str) -> Result<()> {
        if self.flag_or(key, false)? {
            Err(unsupported(format!("{key}: {what} is not done by this version")))
        } else {
            Ok(())
        }
    }
}

/// A value in an error message: short, whatever it is.
pub(crate) fn brief(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(values) => format!("a list of {}", values.len()),
        other => {
            let text = other.to_string();
            match text.char_indices().nth(LONGEST) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}

/// JSON text in memory.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|e| malformed(format!("not JSON: {e}")).because(e))
}

/// A JSON file; nothing where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Value>> {
    let size = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("cannot read", path, e)),
    };
    if size > MAX_FILE {
        return Err(malformed(format!("expected at most {MAX_FILE} bytes of JSON, found {size}")).in_file(path));
    }
    let bytes = fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
    from_bytes(&bytes).map(Some).map_err(|e| e.in_file(path))
}

/// A JSON file that must be there.
pub(crate) fn require(path: &Path) -> Result<Value> {
    read(path)?.ok_or_else(|| Error::new(ErrorKind::NotFound, "the file is missing").in_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_out_of_range_or_of_another_type_name_their_key() {
        let value = json!({"a": 0, "b": 70000, "c": -1, "d": 1.5, "e": "x", "f": 1e300, "g": [1], "h": null, "i": 0.0, "z": "y".repeat(500)});
        let config = Config::of(&value).unwrap();
        for (key, found) in
            [("a", "found 0"), ("b", "found 70000"), ("c", "found -1"), ("d", "found 1.5"), ("e", "found \"x\"")]
        {
            let e = config.number(key, limit::WIDTH).unwrap_err();
            assert!(
                e.message().starts_with(&format!("{key}: expected a whole number from 1 to 65536, {found}")),
                "{e}"
            );
        }
        assert!(config.number("h", limit::WIDTH).unwrap_err().message().contains("missing"));
        assert_eq!(config.number_or("h", 7, limit::WIDTH).unwrap(), 7);
        for key in ["f", "g", "c", "i"] {
            assert!(config.positive_or(key, 1.0).unwrap_err().message().starts_with(key));
        }
        assert!(config.flag_or("a", true).unwrap_err().message().contains("true or false"));
        assert!(config.text("g").unwrap_err().message().contains("a list of 1"));
        assert!(config.number("z", limit::WIDTH).unwrap_err().message().len() < 200);
        assert!(Config::of(&json!([])).is_err());
    }

    #[test]
    fn files_above_the_limit_are_refused_unread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(read(&path).unwrap_err().message().contains("at most 67108864 bytes"));
        assert!(read(&dir.path().join("none")).unwrap().is_none());
        assert_eq!(require(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
