//! `1_Pooling/config.json`, in the form with one switch a mode and in the form with the name of the mode.

use crate::config::{self, Config, limit, malformed, unsupported};
use embral_types::{Error, ErrorKind, Pooling, Result};
use serde_json::Value;

/// What a Pooling module says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolingSpec {
    /// How rows become one vector.
    pub pooling: Pooling,
    /// Whether the tokens of the prompt take part.
    pub include_prompt: bool,
    /// Components of a row, where it says.
    pub width: Option<usize>,
}

/// The switches of the old form with their names in the new one.
const SWITCHES: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

/// Reads the bytes of a Pooling module's `config.json`.
pub fn parse_pooling(json: &[u8]) -> Result<PoolingSpec> {
    parse(&config::from_bytes(json)?)
}

pub(crate) fn parse(value: &Value) -> Result<PoolingSpec> {
    let config = Config::of(value)?;
    let modes = modes(config)?;
    let [mode] = modes[..] else {
        return Err(unsupported(format!("expected one pooling mode, found {modes:?}, which are concatenated")));
    };
    let pooling = mode.parse().map_err(|e: Error| unsupported(format!("pooling_mode: {}", e.message())))?;
    let width = match config.optional_number("embedding_dimension", limit::WIDTH)? {
        Some(width) => Some(width),
        None => config.optional_number("word_embedding_dimension", limit::WIDTH)?,
    };
    Ok(PoolingSpec { pooling, include_prompt: config.flag_or("include_prompt", true)?, width })
}

fn modes(config: Config<'_>) -> Result<Vec<&str>> {
    match config.get("pooling_mode") {
        Some(Value::String(mode)) => return Ok(vec![mode]),
        Some(Value::Array(modes)) if !modes.is_empty() => {
            let names: Option<Vec<&str>> = modes.iter().map(Value::as_str).collect();
            return names.ok_or_else(|| malformed("pooling_mode: expected a list of names"));
        }
        Some(other) => {
            let found = config::brief(other);
            return Err(malformed(format!("pooling_mode: expected a name or a list of names, found {found}")));
        }
        None => {}
    }
    let mut on = Vec::new();
    for (switch, name) in SWITCHES {
        if config.flag_or(switch, false)? {
            on.push(name);
        }
    }
    // sentence-transformers takes the mean where no switch is on.
    Ok(if on.is_empty() { vec!["mean"] } else { on })
}

impl PoolingSpec {
    /// Refuses a module made for rows of another width.
    pub(crate) fn check_width(&self, hidden: usize) -> Result<()> {
        match self.width {
            Some(width) if width != hidden => {
                let message = format!("expected rows of {hidden} components, as the model has, found {width}");
                Err(Error::new(ErrorKind::Mismatch, message))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        for (old, new, pooling) in [
            ("pooling_mode_cls_token", "\"cls\"", Pooling::Cls),
            ("pooling_mode_mean_tokens", "\"mean\"", Pooling::Mean),
            ("pooling_mode_max_tokens", "[\"max\"]", Pooling::Max),
            ("pooling_mode_lasttoken", "\"lasttoken\"", Pooling::Last),
        ] {
            let old = format!(
                r#"{{"word_embedding_dimension": 32, "{old}": true, "pooling_mode_mean_sqrt_len_tokens": false}}"#
            );
            let new = format!(r#"{{"embedding_dimension": 32, "pooling_mode": {new}, "include_prompt": true}}"#);
            let expected = PoolingSpec { pooling, include_prompt: true, width: Some(32) };
            assert_eq!(parse_pooling(old.as_bytes()).unwrap(), expected);
            assert_eq!(parse_pooling(new.as_bytes()).unwrap(), expected);
        }
        assert_eq!(parse_pooling(b"{}").unwrap().pooling, Pooling::Mean);
        assert!(!parse_pooling(br#"{"include_prompt": false}"#).unwrap().include_prompt);
    }

    #[test]
    fn modes_that_are_not_done_are_named() {
        let refused = |json: &str| parse_pooling(json.as_bytes()).unwrap_err();
        let both = refused(r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#);
        assert_eq!(both.kind(), ErrorKind::Unsupported);
        assert!(both.message().contains(r#"["cls", "mean"], which are concatenated"#), "{both}");
        assert!(refused(r#"{"pooling_mode": ["cls", "max"]}"#).message().contains("concatenated"));
        assert!(refused(r#"{"pooling_mode": "weightedmean"}"#).message().contains("weightedmean"));
        assert!(refused(r#"{"pooling_mode": 3}"#).message().contains("found 3"));
        assert!(refused(r#"{"pooling_mode": [3]}"#).message().contains("list of names"));
        assert!(refused(r#"{"pooling_mode_cls_token": 1}"#).message().contains("true or false"));
        let wide = parse_pooling(br#"{"embedding_dimension": 64}"#).unwrap();
        assert!(wide.check_width(32).unwrap_err().message().contains("found 64"));
    }
}
