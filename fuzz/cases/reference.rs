//! A file of reference vectors: a vector for each text, all as wide and finite, and no more numbers than bytes.

use embral::verify::Reference;

pub(crate) fn case(bytes: &[u8]) {
    let Ok(reference) = Reference::parse(bytes, "here") else { return };
    assert!(!reference.sets.is_empty());
    let mut numbers = 0;
    for set in &reference.sets {
        assert_eq!(set.texts.len(), set.embeddings.len());
        assert!(set.ids.as_ref().is_none_or(|ids| ids.len() == set.texts.len()));
        let width = set.embeddings[0].len();
        assert!(set.embeddings.iter().all(|row| row.len() == width && row.iter().all(|x| x.is_finite())));
        numbers += width * set.embeddings.len();
    }
    assert!(numbers <= bytes.len(), "{numbers} numbers out of {} bytes", bytes.len());
}
