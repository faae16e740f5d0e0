//! How long a model is kept: seconds as a number, or a duration as Go writes it.

use serde::{Deserialize, Deserializer, de::Error};

/// Seconds; below 0 for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeepAlive(pub(super) i64);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected seconds or a duration such as \"5m\"")]
enum Raw {
    Number(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for KeepAlive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)? {
            Raw::Number(seconds) => Ok(Self::of(seconds)),
            Raw::Text(text) => {
                let expected =
                    || D::Error::custom(format!("time: invalid duration {text:?}: expected one such as \"5m\""));
                parse(&text).map(Self::of).ok_or_else(expected)
            }
        }
    }
}

impl KeepAlive {
    fn of(seconds: f64) -> Self {
        match seconds {
            seconds if seconds < 0.0 => Self(-1),
            // A fraction of a second is kept as a whole one: only 0 is 0.
            seconds => Self(seconds.ceil().min(1e9) as i64),
        }
    }
}

/// Seconds of `300`, `5m`, `1h30m`, `1.5h`, `500ms`, `-1`.
fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds.is_finite().then_some(seconds);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = behind;
    }
    Some(sign * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (json, seconds) in [
            ("300", 300),
            ("\"5m\"", 300),
            ("\"1h30m\"", 5400),
            ("\"1.5h\"", 5400),
            ("\"500ms\"", 1),
            ("0", 0),
            ("\"0\"", 0),
            ("-1", -1),
            ("\"-1\"", -1),
            ("\"-5m\"", -1),
            ("\"24h\"", 86_400),
            ("1e300", 1_000_000_000),
        ] {
            assert_eq!(serde_json::from_str::<KeepAlive>(json).unwrap(), KeepAlive(seconds), "{json}");
        }
        for bad in ["\"\"", "\"m\"", "\"5 m\"", "\"5x\"", "\"-\"", "\"+\"", "\".s\"", "true", "\"inf\"", "{}"] {
            assert!(serde_json::from_str::<KeepAlive>(bad).is_err(), "{bad}");
        }
    }
}
