//! Vectors as text: base64 of little-endian 32-bit floats, as the embeddings endpoint of OpenAI gives and takes them.
//!
//! ```
//! # fn main() -> embral::Result<()> {
//! let text = embral::base64::encode(&[1.0, -0.5]);
//! assert_eq!(text, "AACAPwAAAL8=");
//! assert_eq!(embral::base64::decode(&text)?, [1.0, -0.5]);
//! # Ok(())
//! # }
//! ```

use base64::{Engine as _, engine::general_purpose::STANDARD};
use embral_types::{Error, ErrorKind, Result};

/// The floats of a vector.
pub fn encode(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    encode_bytes(&bytes)
}

/// Bytes, such as one row of a [`crate::quantize::Quantized`].
pub fn encode_bytes(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The floats of a text that [`encode`] or a server of OpenAI's form made, bit for bit.
///
/// # Errors
/// Where the text is no base64 with its padding, or holds no whole number of floats.
pub fn decode(text: &str) -> Result<Vec<f32>> {
    let bytes = decode_bytes(text)?;
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        let message = format!("expected floats of 4 bytes each, found {} bytes", bytes.len());
        return Err(Error::new(ErrorKind::Malformed, message));
    }
    Ok(floats.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

/// The bytes of a text that [`encode_bytes`] made.
///
/// # Errors
/// Where the text is no base64 with its padding.
pub fn decode_bytes(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|e| Error::new(ErrorKind::Malformed, format!("no base64: {e}")).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_vector_comes_back_bit_for_bit(bits in prop::collection::vec(any::<u32>(), 0..200)) {
            let vector: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            let text = encode(&vector);
            prop_assert_eq!(text.len(), (4 * bits.len()).div_ceil(3) * 4);
            let back: Vec<u32> = decode(&text).unwrap().iter().map(|x| x.to_bits()).collect();
            prop_assert_eq!(back, bits);
        }

        #[test]
        fn every_row_of_bytes_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode_bytes(&encode_bytes(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn what_is_no_base64_is_an_error_and_no_panic(text in ".{0,40}") {
            if let Ok(vector) = decode(&text) {
                prop_assert_eq!(encode(&vector), text);
            }
        }
    }

    #[test]
    fn broken_text_is_refused_by_what_is_wrong_with_it() {
        assert!(decode("AACAPw").unwrap_err().to_string().contains("no base64"));
        assert!(decode("AACAPwA=").unwrap_err().to_string().contains("5 bytes"));
        assert!(decode("AAC*").unwrap_err().to_string().contains("no base64"));
        assert_eq!(decode("").unwrap(), [] as [f32; 0]);
    }
}
