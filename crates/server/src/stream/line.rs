//! Lines: out of the bytes of a body, and what they say.

use crate::{
    dialect::native::{Cut, Encoding},
    failure::{Failure, Kind},
};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, de::DeserializeOwned};

/// The first line of a stream: how its text is to be cut and embedded. It may have text already.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Head {
    pub(super) model: Option<String>,
    pub(super) chunking: Cut,
    pub(super) input_type: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) aggregate: Option<String>,
    pub(super) dimensions: Option<usize>,
    pub(super) normalize: Option<bool>,
    pub(super) encodings: Vec<Encoding>,
    pub(super) priority: Option<String>,
    pub(super) timeout_ms: Option<u64>,
    /// The key of a client that cannot set headers.
    pub(super) key: Option<String>,
    text: Option<String>,
    flush: bool,
    end: bool,
}

/// A further line: more text, a flush behind it, and the end behind that.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Part {
    pub(super) text: Option<String>,
    pub(super) flush: bool,
    pub(super) end: bool,
}

impl Head {
    /// What a first line says.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Failure> {
        json(line, "the first line")
    }

    /// What it says besides how.
    pub(super) fn take_part(&mut self) -> Part {
        Part { text: self.text.take(), flush: self.flush, end: self.end }
    }
}

impl Part {
    /// What a further line says.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Failure> {
        let part: Self = json(line, "a line")?;
        if part == Self::default() {
            return Err(Failure::invalid("a line says nothing: expected text, flush or end"));
        }
        Ok(part)
    }
}

fn json<T: DeserializeOwned>(line: &[u8], which: &str) -> Result<T, Failure> {
    // A list would pass for an object whose fields are given in their order.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(Failure::invalid(format!("{which} is not what was expected: an object of JSON")));
    }
    serde_json::from_slice(line).map_err(|e| {
        let kind = if e.is_data() { Kind::Invalid } else { Kind::Syntax };
        Failure::new(kind, format!("{which} is not what was expected: {e}"))
    })
}

/// That a line is too large.
pub(super) fn too_large(most: usize) -> Failure {
    Failure::new(Kind::TooLarge, format!("a line has more than {most} bytes: send the text in several"))
}

/// Bytes as they come, into lines of at most so many.
pub(super) struct LineBuffer {
    bytes: BytesMut,
    /// Bytes from the start that have no end of a line in them.
    searched: usize,
    most: usize,
    ended: bool,
}

impl LineBuffer {
    pub(super) fn new(most: usize) -> Self {
        Self { bytes: BytesMut::new(), searched: 0, most, ended: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// No more bytes come: what has no end of a line is the last one.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Bytes that are held.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The next line that is not blank, where all of it has come.
    pub(super) fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            let found = self.bytes[self.searched..].iter().position(|&byte| byte == b'\n');
            let length = match found {
                Some(at) => self.searched + at,
                None => self.bytes.len(),
            };
            if length > self.most {
                return Some(Err(too_large(self.most)));
            }
            if found.is_none() && !(self.ended && length > 0) {
                self.searched = length;
                return None;
            }
            let line = self.bytes.split_to((length + 1).min(self.bytes.len())).freeze();
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                return Some(Ok(line.slice(..length)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All lines of bytes that come in parts; behind an error nothing.
    fn lines(parts: &[&[u8]], most: usize) -> Vec<Result<Vec<u8>, Kind>> {
        let mut buffer = LineBuffer::new(most);
        let mut found = Vec::new();
        for part in parts.iter().map(Some).chain([None]) {
            match part {
                Some(part) => buffer.push(part),
                None => buffer.end(),
            }
            while let Some(line) = buffer.next() {
                found.push(line.map(|line| line.to_vec()).map_err(|failure| failure.kind));
                if found.last().is_some_and(Result::is_err) {
                    return found;
                }
            }
        }
        found
    }

    proptest! {
        #[test]
        fn parts_do_not_matter(bytes in prop::collection::vec(prop::sample::select(&b"ab \n\r{"[..]), 0..80), most in 1usize..20, size in 1usize..9) {
            let whole = lines(&[&bytes], most);
            let parts: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(lines(&parts, most), whole.clone());
            let wanted: Vec<&[u8]> = bytes.split(|&b| b == b'\n').filter(|line| line.len() > most || !line.trim_ascii().is_empty()).collect();
            for (found, wanted) in whole.iter().zip(&wanted) {
                match found {
                    Ok(line) => prop_assert_eq!(&line[..], *wanted),
                    Err(kind) => prop_assert!(*kind == Kind::TooLarge && wanted.len() > most),
                }
            }
            prop_assert!(whole.len() == wanted.len() || whole.last().is_some_and(Result::is_err));
        }

        #[test]
        fn any_bytes_are_a_part_or_an_error_that_says_why(bytes in prop::collection::vec(any::<u8>(), 0..60), text in ".*") {
            for failure in [Part::parse(&bytes).err(), Head::parse(&bytes).err()].into_iter().flatten() {
                prop_assert!(matches!(failure.kind, Kind::Syntax | Kind::Invalid) && !failure.message.is_empty());
            }
            let line = serde_json::json!({ "text": text, "flush": true }).to_string();
            prop_assert_eq!(Part::parse(line.as_bytes()).unwrap(), Part { text: Some(text), flush: true, end: false });
        }
    }

    #[test]
    fn what_a_line_says_is_checked() {
        assert_eq!(Part::parse(b"{\"end\":true}\r").unwrap(), Part { end: true, ..Part::default() });
        assert_eq!(Part::parse(b"{\"text\":\"\"}").unwrap().text.as_deref(), Some(""));
        for (bad, kind, named) in [
            (&b"{}"[..], Kind::Invalid, "text, flush or end"),
            (b"{\"model\":\"m\"}", Kind::Invalid, "model"),
            (b"{\"text\":1}", Kind::Invalid, "string"),
            (b"[\"a\"]", Kind::Invalid, "object"),
            (b"{\"text\":\"a\"", Kind::Syntax, "EOF"),
            (b"{\"text\":\"\xff\"}", Kind::Syntax, "unicode"),
            (&[b"{\"text\":".as_slice(), &[b'['; 5000]].concat(), Kind::Invalid, "string"),
        ] {
            let failure = Part::parse(bad).unwrap_err();
            assert!(failure.kind == kind && failure.message.contains(named), "{failure:?}");
        }
        let mut head =
            Head::parse(br#"{"model":"m","chunking":{"by":"tokens","size":8},"encodings":["float"],"text":"a"}"#)
                .unwrap();
        assert_eq!(head.take_part(), Part { text: Some("a".to_owned()), ..Part::default() });
        assert_eq!(head.model.as_deref(), Some("m"));
        assert!(Head::parse(br#"{"modle":"m"}"#).err().unwrap().message.contains("modle"));
    }
}
