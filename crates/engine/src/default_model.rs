//! The default model: a static table inside the library, so that text becomes vectors with no set-up and no network.

/// The name of the default model.
pub const NAME: &str = "embral-static-256";

/// Whether `name` is that of the default model, or of the need that it is chosen for.
pub(crate) fn is_meant(name: &str) -> bool {
    name == NAME || embral_models::catalogue::preset(name).is_some_and(|preset| preset.model == NAME)
}

/// SPDX identifier of its licence.
pub const LICENCE: &str = "Apache-2.0";

/// Components of its vectors.
pub const DIMENSIONS: usize = 256;

/// The widths its vectors may be cut to: its components are in the order of their variance.
pub const MATRYOSHKA: [usize; 4] = [256, 128, 64, 32];

/// The files of a model folder, as [`crate::Embedder`] reads them.
#[cfg(feature = "default-model")]
pub(crate) struct Files {
    pub(crate) weights: &'static [u8],
    pub(crate) tokenizer: &'static [u8],
}

#[cfg(feature = "default-model")]
pub(crate) static FILES: Files = Files {
    weights: include_bytes!("../assets/default/model.safetensors"),
    tokenizer: include_bytes!("../assets/default/tokenizer.json"),
};
