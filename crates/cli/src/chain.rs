//! A hash over the ids and texts of an input, record by record: what a resumed run checks its input by.

use crate::input::{Id, Record};

/// The hash of no record (FNV-1a's offset basis).
pub(crate) const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash with one more record: FNV-1a over its id and text, each behind its length.
pub(crate) fn next(chain: u64, record: &Record) -> u64 {
    let number;
    let id: &[u8] = match &record.id {
        Id::Row(_) => &[],
        Id::Int(n) => {
            number = n.to_le_bytes();
            &number
        }
        Id::Text(s) | Id::Json(s) => s.as_bytes(),
    };
    let bytes = |chain: u64, bytes: &[u8]| bytes.iter().fold(chain, |c, &b| (c ^ u64::from(b)).wrapping_mul(PRIME));
    let chain = bytes(chain, &(id.len() as u64).to_le_bytes());
    let chain = bytes(bytes(chain, id), &(record.text.len() as u64).to_le_bytes());
    bytes(chain, record.text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_every_text_its_id_and_the_order() {
        let record = |id: &str, text: &str| Record { id: Id::Text(id.into()), text: text.into(), line: 1, place: None };
        let hash = |records: &[Record]| records.iter().fold(START, next);
        let (a, b) = (record("1", "a"), record("2", "b"));
        assert_eq!(hash(&[a.clone(), b.clone()]), hash(&[a.clone(), b.clone()]));
        assert_ne!(hash(&[a.clone(), b.clone()]), hash(&[b, a]));
        assert_ne!(hash(&[record("1", "ab")]), hash(&[record("1a", "b")]));
        assert_ne!(hash(&[record("", "")]), START);
    }
}
