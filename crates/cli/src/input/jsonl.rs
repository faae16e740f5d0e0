//! JSON lines: one object a line, the text in one of its fields.

use super::{Bytes, Fault, Id, Record, Source, lines::Lines, listed, to_text};
use anyhow::anyhow;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The objects of a file as records.
pub(super) struct JsonLines {
    lines: Lines,
    field: String,
    id_field: Option<String>,
}

impl JsonLines {
    pub(super) fn new(reader: Bytes, name: String, field: String, id_field: Option<String>) -> Self {
        Self { lines: Lines::new(reader, name), field, id_field }
    }
}

impl Source for JsonLines {
    fn next(&mut self, repairs: &mut u64) -> Result<Option<Record>, Fault> {
        loop {
            let Some(line) = self.lines.next()? else { return Ok(None) };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let before = *repairs;
            let line = to_text(line, repairs);
            let at = |what: String| Fault::Row(anyhow!("{}:{}: {what}", self.lines.name, self.lines.number));
            let (text, id) = pick(&line, &self.field, self.id_field.as_deref()).map_err(|e| {
                let position = if e.line() > 0 { format!(" at column {}", e.column()) } else { String::new() };
                at(format!("no JSON object{position}: {}", without_position(&e)))
            })?;
            let missing = |field: &str, flag: &str| {
                at(format!("no field {field:?}; the fields are: {}: name one with {flag}", fields(&line)))
            };
            let text = text.ok_or_else(|| missing(&self.field, "--field"))?;
            let text = string(text, repairs)
                .ok_or_else(|| at(format!("field {:?} is {}, not a string", self.field, kind(text))))?;
            let id = match &self.id_field {
                None => Id::Row(0),
                Some(field) => json_id(id.ok_or_else(|| missing(field, "--id-field"))?, repairs),
            };
            *repairs = (*repairs).min(before + 1);
            return Ok(Some(Record { id, text, line: self.lines.number, place: None }));
        }
    }
}

/// An id as it stands in the line: integers and strings as such, anything else as its JSON.
fn json_id(raw: &str, repairs: &mut u64) -> Id {
    if let Some(text) = string(raw, repairs) {
        Id::Text(text)
    } else if let Ok(n) = raw.parse::<i64>() {
        Id::Int(n)
    } else {
        Id::Json(raw.to_owned())
    }
}

/// The raw values of two fields of an object; the last one where a name comes twice.
fn pick<'a>(
    line: &'a str,
    field: &str,
    id_field: Option<&str>,
) -> serde_json::Result<(Option<&'a str>, Option<&'a str>)> {
    struct Pick<'f> {
        field: &'f str,
        id_field: Option<&'f str>,
    }
    impl<'a> Visitor<'a> for Pick<'_> {
        type Value = (Option<&'a str>, Option<&'a str>);

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut found = (None, None);
            while let Some(key) = map.next_key::<std::borrow::Cow<'a, str>>()? {
                let (is_text, is_id) = (key == self.field, Some(key.as_ref()) == self.id_field);
                if is_text || is_id {
                    let raw = map.next_value::<&'a RawValue>()?.get();
                    if is_text {
                        found.0 = Some(raw);
                    }
                    if is_id {
                        found.1 = Some(raw);
                    }
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }
    let mut de = serde_json::Deserializer::from_str(line);
    let found = de.deserialize_map(Pick { field, id_field })?;
    de.end()?;
    Ok(found)
}

/// The names of the fields of an object, for a message.
fn fields(line: &str) -> String {
    let object: serde_json::Result<std::collections::BTreeMap<String, IgnoredAny>> = serde_json::from_str(line);
    object.map_or_else(|_| "unreadable".into(), |o| listed(o.keys().map(String::as_str)))
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
}

fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'"') => "a string",
        _ => "a number",
    }
}

/// A JSON string decoded; nothing where the value is no string. An escaped half of a surrogate pair (`\ud800` alone) is no
/// character: it becomes U+FFFD, as the bytes that are no UTF-8 do, and counts as a repair.
fn string(raw: &str, repairs: &mut u64) -> Option<String> {
    if !raw.starts_with('"') {
        return None;
    }
    if let Ok(text) = serde_json::from_str(raw) {
        return Some(text);
    }
    let text = serde_json::from_str(&without_lone_surrogates(raw)).ok()?;
    *repairs += 1;
    Some(text)
}

/// The same JSON string with each escaped surrogate that has no partner written `\ufffd`.
fn without_lone_surrogates(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let unit = |at: usize| -> Option<u16> {
        let escape = bytes.get(at..at + 6)?;
        if &escape[..2] != b"\\u" {
            return None;
        }
        u16::from_str_radix(std::str::from_utf8(&escape[2..]).ok()?, 16).ok()
    };
    let mut out = String::with_capacity(raw.len());
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let step = match unit(at) {
            None => 2,
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                out.push_str(&raw[copied..at]);
                out.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            Some(_) => 6,
        };
        at += step;
    }
    out.push_str(&raw[copied..]);
    out
}
