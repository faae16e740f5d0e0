//! The forms in which vectors go out.

use crate::failure::{Failure, Kind};
use embral::{
    Embeddings, Prompt, base64,
    quantize::{Calibration, Quantization, Ranges, quantize},
    serving::ServedModel,
};
use embral_types::ErrorKind;
use serde::{Deserialize, Serialize};

/// A form of vectors.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    Float,
    Base64,
    F16,
    Int8,
    Uint8,
    Binary,
    Ubinary,
}

/// A vector in the forms that were asked for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Encoded {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) embedding: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) f16: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) int8: Option<Vec<i8>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uint8: Option<Vec<u8>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<Vec<i8>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ubinary: Option<Vec<u8>>,
}

/// Forms with what is needed to make them.
pub(crate) struct Encoder {
    forms: Vec<Encoding>,
    ranges: Option<Ranges>,
}

impl Encoder {
    /// The ranges of components, which 8-bit vectors need, are those that were kept by `embral calibrate` for this model and prompt: taken
    /// from the texts of a request, they would make a vector depend on its company.
    pub(crate) fn new(
        forms: Vec<Encoding>,
        model: &ServedModel,
        prompt: Prompt<'_>,
        dims: Option<usize>,
    ) -> Result<Self, Failure> {
        let forms = if forms.is_empty() { vec![Encoding::Float] } else { forms };
        if !forms.iter().any(|form| matches!(form, Encoding::Int8 | Encoding::Uint8)) {
            return Ok(Self { forms, ranges: None });
        }
        let lacks = |why: &str| {
            let message = format!(
                "int8 and uint8 need the range of each component, and {why}: take them once with `embral calibrate`; binary, \
                 ubinary and f16 need none"
            );
            Failure::new(Kind::Unsupported, message).of_field("encodings")
        };
        let Some(embedder) = model.embedder() else { return Err(lacks("only embedding models have them")) };
        if dims.is_some_and(|dims| dims != embedder.dimensions()) {
            return Err(lacks("they are kept for the whole vector alone"));
        }
        let kept = Calibration::begin(embedder, prompt).and_then(|begun| Calibration::read(&begun.path()?));
        let ranges = kept.and_then(|kept| kept.ensure_of(embedder, prompt).and_then(|()| kept.ranges()));
        match ranges {
            Ok(ranges) => Ok(Self { forms, ranges: Some(ranges) }),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(lacks("none are kept for this model and prompt")),
            Err(e) => Err(lacks(&format!("those that are kept cannot be used ({})", e.message()))),
        }
    }

    pub(crate) fn encode(&self, vector: Vec<f32>) -> Result<Encoded, Failure> {
        let mut encoded = Encoded::default();
        let dim = vector.len();
        let rows = Embeddings::new(vector, dim);
        let bytes = |form| {
            let quantized = quantize(&rows, form, self.ranges.as_ref()).map_err(Failure::from)?;
            Ok::<Vec<u8>, Failure>(quantized.into_bytes())
        };
        let signed = |bytes: Vec<u8>| bytes.into_iter().map(u8::cast_signed).collect();
        for form in &self.forms {
            match form {
                Encoding::Float => {}
                Encoding::Base64 => encoded.base64 = Some(base64::encode(rows.as_slice())),
                Encoding::F16 => encoded.f16 = Some(base64::encode_bytes(&bytes(Quantization::F16)?)),
                Encoding::Int8 => encoded.int8 = Some(signed(bytes(Quantization::Int8)?)),
                Encoding::Uint8 => encoded.uint8 = Some(bytes(Quantization::Uint8)?),
                Encoding::Binary => encoded.binary = Some(signed(bytes(Quantization::Binary)?)),
                Encoding::Ubinary => encoded.ubinary = Some(bytes(Quantization::Ubinary)?),
            }
        }
        if self.forms.contains(&Encoding::Float) {
            encoded.embedding = Some(rows.into_vec());
        }
        Ok(encoded)
    }
}
