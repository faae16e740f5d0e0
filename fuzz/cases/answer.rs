//! The answer of a server to texts, of the kind that the first byte says: no more numbers than bytes.

use embral::remote::{Kind, parse_answer};

pub(crate) fn case(bytes: &[u8]) {
    let Some((&kind, body)) = bytes.split_first() else { return };
    let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
    let Ok(rows) = parse_answer(kind, body) else { return };
    let numbers: usize = rows.iter().map(Vec::len).sum();
    assert!(
        numbers + rows.len() <= body.len(),
        "{} vectors of {numbers} numbers out of {} bytes",
        rows.len(),
        body.len()
    );
}
