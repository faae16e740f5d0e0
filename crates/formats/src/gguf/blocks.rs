//! The formats of GGUF: blocks of 32 or 256 values with scales of their own.
//!
//! A block of 256 ("K") has 8 or 16 parts, each with a scale (and a minimum) of 4 to 8 bits, which f16 factors of the block multiply.

use embral_types::Dtype;
use half::f16;

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the formats")]
pub enum Format {
    F32,
    F16,
    Bf16,
    F64,
    I8,
    I32,
    I64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

/// Values of a block of the K formats.
const K: usize = 256;

impl Format {
    /// Every format that is read.
    pub const ALL: [Self; 17] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::F64,
        Self::I8,
        Self::I32,
        Self::I64,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Number in the file, name, values of a block, bytes of a block.
    fn row(self) -> (u32, &'static str, usize, usize) {
        match self {
            Self::F32 => (0, "F32", 1, 4),
            Self::F16 => (1, "F16", 1, 2),
            Self::Q4_0 => (2, "Q4_0", 32, 18),
            Self::Q4_1 => (3, "Q4_1", 32, 20),
            Self::Q5_0 => (6, "Q5_0", 32, 22),
            Self::Q5_1 => (7, "Q5_1", 32, 24),
            Self::Q8_0 => (8, "Q8_0", 32, 34),
            Self::Q2K => (10, "Q2_K", K, 84),
            Self::Q3K => (11, "Q3_K", K, 110),
            Self::Q4K => (12, "Q4_K", K, 144),
            Self::Q5K => (13, "Q5_K", K, 176),
            Self::Q6K => (14, "Q6_K", K, 210),
            Self::I8 => (24, "I8", 1, 1),
            Self::I32 => (26, "I32", 1, 4),
            Self::I64 => (27, "I64", 1, 8),
            Self::F64 => (28, "F64", 1, 8),
            Self::Bf16 => (30, "BF16", 1, 2),
        }
    }

    /// The name as ggml has it.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The values of a block, and its bytes.
    pub fn block(self) -> (usize, usize) {
        let (_, _, values, bytes) = self.row();
        (values, bytes)
    }

    pub(super) fn of(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.row().0 == code)
    }

    /// The format of a value, where each is stored for itself.
    pub(super) fn dtype(self) -> Option<Dtype> {
        Some(match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
            Self::F64 => Dtype::F64,
            Self::I8 => Dtype::I8,
            Self::I32 => Dtype::I32,
            Self::I64 => Dtype::I64,
            _ => return None,
        })
    }

    /// Whole blocks as little-endian f32.
    ///
    /// # Panics
    /// Where values are not in blocks.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Q4_0 => each::<18, 32>(bytes, q4_0),
            Self::Q4_1 => each::<20, 32>(bytes, q4_1),
            Self::Q5_0 => each::<22, 32>(bytes, q5_0),
            Self::Q5_1 => each::<24, 32>(bytes, q5_1),
            Self::Q8_0 => each::<34, 32>(bytes, q8_0),
            Self::Q2K => each::<84, K>(bytes, q2_k),
            Self::Q3K => each::<110, K>(bytes, q3_k),
            Self::Q4K => each::<144, K>(bytes, q4_k),
            Self::Q5K => each::<176, K>(bytes, q5_k),
            Self::Q6K => each::<210, K>(bytes, q6_k),
            other => panic!("{} has no blocks", other.name()),
        }
    }
}

/// Decodes block after block.
fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) -> Vec<u8> {
    let blocks = bytes.as_chunks::<BYTES>().0;
    let mut all = Vec::with_capacity(blocks.len() * VALUES * size_of::<f32>());
    let mut values = [0.0; VALUES];
    for block in blocks {
        decode(block, &mut values);
        all.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }
    all
}

/// The f16 at byte `at`.
fn factor(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Nibble `i` of 32: the low ones of 16 bytes, then the high ones.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 }
}

/// `d (q - 8)`.
fn q4_0(block: &[u8; 18], to: &mut [f32; 32]) {
    let d = factor(block, 0);
    for (i, x) in to.iter_mut().enumerate() {
        *x = d * (f32::from(nibble(&block[2..], i)) - 8.0);
    }
}

/// `d q + m`.
fn q4_1(block: &[u8; 20], to: &mut [f32; 32]) {
    let (d, m) = (factor(block, 0), factor(block, 2));
    for (i, x) in to.iter_mut().enumerate() {
        *x = d * f32::from(nibble(&block[4..], i)) + m;
    }
}

/// Nibble `i` with its fifth bit, which is bit `i` of 4 bytes before the nibbles.
fn five_bits(bytes: &[u8], i: usize) -> u8 {
    nibble(&bytes[4..], i) | (bytes[i / 8] >> (i % 8) & 1) << 4
}

/// `d (q - 16)`.
fn q5_0(block: &[u8; 22], to: &mut [f32; 32]) {
    let d = factor(block, 0);
    for (i, x) in to.iter_mut().enumerate() {
        *x = d * (f32::from(five_bits(&block[2..], i)) - 16.0);
    }
}

/// `d q + m`.
fn q5_1(block: &[u8; 24], to: &mut [f32; 32]) {
    let (d, m) = (factor(block, 0), factor(block, 2));
    for (i, x) in to.iter_mut().enumerate() {
        *x = d * f32::from(five_bits(&block[4..], i)) + m;
    }
}

/// `d q`.
fn q8_0(block: &[u8; 34], to: &mut [f32; 32]) {
    let d = factor(block, 0);
    for (x, &q) in to.iter_mut().zip(&block[2..]) {
        *x = d * f32::from(q as i8);
    }
}

/// The two bits of value `i`: each run of 32 bytes has four values a byte, 32 apart.
fn two_bits(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

/// `d s q - m t`, `s` and `t` being the halves of a byte for each 16 values.
fn q2_k(block: &[u8; 84], to: &mut [f32; K]) {
    let (scales, quants) = block.split_at(16);
    let (d, m) = (factor(block, 80), factor(block, 82));
    for (i, x) in to.iter_mut().enumerate() {
        let scale = scales[i / 16];
        *x = d * f32::from(scale & 15) * f32::from(two_bits(quants, i)) - m * f32::from(scale >> 4);
    }
}

/// `d (s - 32) (q - 4)`, `s` having 6 bits for each 16 values; the third bit of `q` stands in 32 bytes of its own.
fn q3_k(block: &[u8; 110], to: &mut [f32; K]) {
    let (mask, rest) = block.split_at(32);
    let (quants, scales) = rest.split_at(64);
    let d = factor(block, 108);
    for (i, x) in to.iter_mut().enumerate() {
        let part = i / 16;
        let low = if part < 8 { scales[part] & 15 } else { scales[part - 8] >> 4 };
        let high = scales[8 + part % 4] >> (part / 4 * 2) & 3;
        let scale = f32::from(low | high << 4) - 32.0;
        let third = mask[i % 32] >> (i / 32) & 1;
        *x = d * scale * (f32::from(two_bits(quants, i) | third << 2) - 4.0);
    }
}

/// The scale and the minimum of part `i` of 8, of 6 bits each, in 12 bytes.
fn scale_and_minimum(bytes: &[u8], i: usize) -> (f32, f32) {
    let (scale, minimum) = if i < 4 {
        (bytes[i] & 63, bytes[i + 4] & 63)
    } else {
        let low = bytes[i + 4];
        (low & 15 | (bytes[i - 4] >> 2) & 48, low >> 4 | (bytes[i] >> 2) & 48)
    };
    (scale.into(), minimum.into())
}

/// Nibble `i` of 256: each run of 32 bytes has the low ones of 32 values, then the high ones of the next 32.
fn k_nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15
}

/// `d s q - m t`.
fn q4_k(block: &[u8; 144], to: &mut [f32; K]) {
    let (d, m) = (factor(block, 0), factor(block, 2));
    for (i, x) in to.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..], i / 32);
        *x = d * scale * f32::from(k_nibble(&block[16..], i)) - m * minimum;
    }
}

/// `d s q - m t`, the fifth bit of `q` in 32 bytes of its own.
fn q5_k(block: &[u8; 176], to: &mut [f32; K]) {
    let (d, m) = (factor(block, 0), factor(block, 2));
    for (i, x) in to.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..], i / 32);
        let fifth = block[16 + i % 32] >> (i / 32) & 1;
        *x = d * scale * f32::from(k_nibble(&block[48..], i) | fifth << 4) - m * minimum;
    }
}

/// `d s (q - 32)`, `s` being a signed byte for each 16 values; four bits of `q` in 128 bytes, two in 64.
fn q6_k(block: &[u8; 210], to: &mut [f32; K]) {
    let (low, rest) = block.split_at(128);
    let (high, scales) = rest.split_at(64);
    let d = factor(block, 208);
    for (i, x) in to.iter_mut().enumerate() {
        let low = low[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
        let scale = f32::from(scales[i / 16] as i8);
        *x = d * scale * (f32::from(low | two_bits(high, i) << 4) - 32.0);
    }
}
