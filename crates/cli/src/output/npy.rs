//! NumPy's `.npy`, version 1.0, and the same without its header.

use super::{Encode, Layout, Number, Rows, Vectors};
use anyhow::Result;

/// Bytes of the header: a multiple of 64 with room for any number of rows, so that the number can be set at the end.
const HEADER: usize = 128;

/// One array `[rows, width]`.
pub(super) struct Array {
    layout: Layout,
    header: bool,
}

impl Array {
    /// The `.npy` file.
    pub(super) fn with_header(layout: Layout) -> Self {
        Self { layout, header: true }
    }

    /// The numbers alone.
    pub(super) fn headless(layout: Layout) -> Self {
        Self { layout, header: false }
    }

    fn header(&self, rows: u64) -> Vec<u8> {
        let number = match self.layout.number {
            Number::F32 => "<f4",
            Number::F16 => "<f2",
            Number::I8 => "|i1",
            Number::U8 => "|u1",
        };
        let about =
            format!("{{'descr': '{number}', 'fortran_order': False, 'shape': ({rows}, {}), }}", self.layout.width);
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        let length = u16::try_from(HEADER - 10).expect("the header is shorter than 65,536 bytes");
        header.extend_from_slice(&length.to_le_bytes());
        header.extend_from_slice(about.as_bytes());
        header.resize(HEADER - 1, b' ');
        header.push(b'\n');
        header
    }
}

impl Encode for Array {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.header {
            out.extend_from_slice(&self.header(0));
        }
        Ok(())
    }

    fn rows(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        let width = self.layout.width;
        rows.vectors.bytes(rows.first * width..(rows.first + rows.records.len()) * width, out);
        Ok(())
    }

    fn end(&mut self, rows: u64, _out: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
        Ok(self.header.then(|| self.header(rows)))
    }
}

/// Vectors as one `.npy` file.
pub(crate) fn npy(vectors: embral::Embeddings) -> Vec<u8> {
    let (rows, width) = (vectors.len(), vectors.dim());
    let array = Array::with_header(Layout {
        width,
        number: Number::F32,
        ids: false,
        id_type: None,
        text: false,
        base64: false,
        chunks: false,
    });
    let mut out = array.header(rows as u64);
    Vectors::F32(vectors.into_vec()).bytes(0..rows * width, &mut out);
    out
}
