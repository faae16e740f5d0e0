//! What follows pooling: the modules of a sentence-transformers folder after its Pooling module.

use crate::config::{self, Config, limit, unsupported};
use embral_types::{Activation, Error, ErrorKind, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// ε of PyTorch's `LayerNorm`, which the module does not state.
pub const LAYER_NORM_EPS: f32 = 1e-5;

/// One step from the pooled vector to the embedding.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// `activation(x Wᵀ + b)`.
    Dense(Dense),
    /// Layer norm over the vector, with γ `norm.weight` and β `norm.bias`.
    LayerNorm {
        /// Components.
        width: usize,
        /// What is added under the root.
        eps: f32,
        /// The safetensors file.
        weights: PathBuf,
    },
    /// `x / max(‖x‖₂, 1e-12)`.
    Normalize,
}

/// A linear layer on the pooled vector, or on the row of a token; its file has `linear.weight`, `[outputs, inputs]`, and `linear.bias`,
/// `[outputs]`, both without `linear.` where the file holds nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Components that go in.
    pub inputs: usize,
    /// Components that come out.
    pub outputs: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// The function after it.
    pub activation: Activation,
    /// The safetensors file.
    pub weights: PathBuf,
}

/// Reads the bytes of a Dense module's `config.json`; `weights` is the file beside it.
pub fn parse_dense(json: &[u8], weights: &Path) -> Result<Dense> {
    dense(&config::from_bytes(json)?, weights, SENTENCES)
}

/// What a module over pooled rows takes.
pub(crate) const SENTENCES: &str = "sentence_embedding";
/// What a module over token rows takes.
pub(crate) const TOKENS: &str = "token_embeddings";

/// A Dense module that takes and gives `input`.
pub(crate) fn dense(value: &Value, weights: &Path, input: &str) -> Result<Dense> {
    let config = Config::of(value)?;
    config.refuse_flag("use_residual", "a residual around a Dense module")?;
    for key in ["module_input_name", "module_output_name"] {
        if let Some(name) = config.text(key)?.filter(|name| *name != input) {
            return Err(unsupported(format!("{key}: expected {input:?}, found {name:?}")));
        }
    }
    Ok(Dense {
        inputs: config.number("in_features", limit::WIDTH)?,
        outputs: config.number("out_features", limit::WIDTH)?,
        bias: config.flag_or("bias", true)?,
        activation: activation(config)?,
        weights: weights.to_owned(),
    })
}

/// The Python path of a class of `torch.nn`, such as `torch.nn.modules.activation.Tanh`; Tanh where it is not said.
fn activation(config: Config<'_>) -> Result<Activation> {
    let Some(path) = config.text("activation_function")? else { return Ok(Activation::Tanh) };
    let name = path.strip_prefix("torch.nn.").and_then(|path| path.rsplit('.').next());
    match name {
        Some("Identity") => Ok(Activation::Identity),
        Some("Tanh") => Ok(Activation::Tanh),
        Some("ReLU") => Ok(Activation::Relu),
        // The class without arguments is the exact form.
        Some("GELU") => Ok(Activation::GeluErf),
        Some("SiLU") => Ok(Activation::Silu),
        _ => Err(unsupported(format!(
            "activation_function: expected Identity, Tanh, ReLU, GELU or SiLU of torch.nn, found {path:?}"
        ))),
    }
}

pub(crate) fn layer_norm(value: &Value, weights: &Path) -> Result<Head> {
    let width = Config::of(value)?.number("dimension", limit::WIDTH)?;
    Ok(Head::LayerNorm { width, eps: LAYER_NORM_EPS, weights: weights.to_owned() })
}

impl Head {
    /// The components that come out of `width` components that go in.
    pub(crate) fn width_after(&self, width: usize) -> Result<usize> {
        let (expects, gives) = match self {
            Self::Dense(dense) => (dense.inputs, dense.outputs),
            Self::LayerNorm { width, .. } => (*width, *width),
            Self::Normalize => (width, width),
        };
        if expects != width {
            let message =
                format!("expected a module for {width} components, which come out before it, found one for {expects}");
            return Err(Error::new(ErrorKind::Mismatch, message));
        }
        Ok(gives)
    }
}

/// The components of the embedding where rows have `width` components.
pub(crate) fn width_after_all(heads: &[Head], width: usize) -> Result<usize> {
    heads.iter().try_fold(width, |width, head| head.width_after(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Dense> {
        parse_dense(json.as_bytes(), Path::new("d"))
    }

    #[test]
    fn activations_are_known_by_their_python_paths() {
        for (path, activation) in [
            ("torch.nn.modules.activation.Tanh", Activation::Tanh),
            ("torch.nn.modules.linear.Identity", Activation::Identity),
            ("torch.nn.modules.activation.GELU", Activation::GeluErf),
            ("torch.nn.modules.activation.ReLU", Activation::Relu),
            ("torch.nn.SiLU", Activation::Silu),
        ] {
            let dense =
                parse(&format!(r#"{{"in_features": 3, "out_features": 2, "activation_function": "{path}"}}"#)).unwrap();
            assert_eq!((dense.inputs, dense.outputs, dense.bias, dense.activation), (3, 2, true, activation));
        }
        assert_eq!(parse(r#"{"in_features": 3, "out_features": 2}"#).unwrap().activation, Activation::Tanh);
    }

    #[test]
    fn what_is_not_done_is_refused_by_key() {
        for (key, value) in [
            ("activation_function", "\"my.Own\""),
            ("activation_function", "\"torch.nn.Softmax\""),
            ("use_residual", "true"),
            ("module_input_name", "\"token_embeddings\""),
            ("in_features", "0"),
            ("out_features", "1e9"),
            ("bias", "\"yes\""),
        ] {
            let fields = [("in_features", "3"), ("out_features", "2")];
            let others = fields.iter().filter(|(k, _)| *k != key).map(|(k, v)| format!("\"{k}\": {v}, "));
            let e = parse(&format!("{{{}\"{key}\": {value}}}", others.collect::<String>())).unwrap_err();
            assert!(e.message().starts_with(&format!("{key}: ")), "{e}");
        }
    }

    #[test]
    fn widths_are_followed_through_the_chain() {
        let dense = |i, o| Head::Dense(parse(&format!(r#"{{"in_features": {i}, "out_features": {o}}}"#)).unwrap());
        assert_eq!(width_after_all(&[dense(4, 8), Head::Normalize, dense(8, 3)], 4).unwrap(), 3);
        let e = width_after_all(&[dense(4, 8), dense(7, 3)], 4).unwrap_err();
        assert!(e.message().contains("for 8 components") && e.message().contains("one for 7"), "{e}");
    }
}
