//! A NumPy file of f32: an accepted one has exactly the values of its shape.

use embral_formats::npy;

pub(crate) fn case(bytes: &[u8]) {
    let Ok(rows) = npy::read_bytes(bytes) else { return };
    assert_eq!(rows.as_slice().len(), rows.len() * rows.dim());
    assert!(rows.as_slice().len() * 4 <= bytes.len());
}
