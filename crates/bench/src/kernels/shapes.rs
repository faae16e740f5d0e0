//! What a model makes kernels do: sizes, no weights.

use embral_kernels::measure::Layer;
use embral_kernels::op::activation::Activation;
use embral_kernels::op::attention::{AttentionShape, Mask};
use embral_kernels::op::norm::NormKind;
use embral_models::{Blueprint, ModelFolder, Network, QkNorm, RopeSpec};
use embral_types::Result;
use std::path::Path;

/// The sizes of a transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Shapes {
    /// What to call it.
    pub name: String,
    /// Rows of the word table.
    pub vocab: usize,
    /// The width of a row between blocks.
    pub hidden: usize,
    /// Heads, their width and the mask of the first block.
    pub attention: AttentionShape,
    /// The width between the two layers of the perceptron.
    pub inner: usize,
    /// Whether it has a gate.
    pub gated: bool,
    /// Its function.
    pub activation: Activation,
    /// Its norms.
    pub norm: NormKind,
    /// Rotary positions.
    pub rope: Option<RopeSpec>,
    /// Whether heads are normalised by themselves.
    pub head_norms: bool,
}

impl Shapes {
    /// Those of all-MiniLM-L6-v2: the model that most people run.
    pub fn minilm() -> Self {
        Self {
            name: "all-MiniLM-L6-v2".to_owned(),
            vocab: 30_522,
            hidden: 384,
            attention: AttentionShape { heads: 12, kv_heads: 12, dim: 32, scale: 0.176_776_7, mask: Mask::Full },
            inner: 1536,
            gated: false,
            activation: Activation::GeluErf,
            norm: NormKind::Layer,
            rope: None,
            head_norms: false,
        }
    }

    /// Those of the model in a folder; `None` where it is static and has no products.
    ///
    /// # Errors
    /// Where its configuration files cannot be read or make no model.
    pub fn of_folder(path: &Path, name: &str) -> Result<Option<Self>> {
        match &ModelFolder::read(path)?.network {
            Network::Transformer { blueprint, .. } => Ok(Some(Self::of(blueprint, name))),
            Network::Static(_) | Network::Graph(_) => Ok(None),
        }
    }

    fn of(b: &Blueprint, name: &str) -> Self {
        use embral_types as t;
        let a = &b.attention;
        let view = &a.views[0];
        let mask = match view.mask {
            t::Mask::Full => Mask::Full,
            t::Mask::Causal => Mask::Causal,
            t::Mask::Window(reach) => Mask::Window(reach),
            t::Mask::CausalWindow(reach) => Mask::CausalWindow(reach),
        };
        Self {
            name: name.to_owned(),
            vocab: b.vocab,
            hidden: b.hidden,
            attention: AttentionShape { heads: a.heads, kv_heads: a.kv_heads, dim: a.head_dim, scale: a.scale, mask },
            inner: b.mlp.width,
            gated: b.mlp.gated,
            activation: match b.mlp.activation {
                t::Activation::Identity => Activation::Identity,
                t::Activation::GeluErf => Activation::GeluErf,
                t::Activation::GeluTanh => Activation::GeluTanh,
                t::Activation::Silu => Activation::Silu,
                t::Activation::Relu => Activation::Relu,
                t::Activation::Tanh => Activation::Tanh,
            },
            norm: match b.norm.kind {
                t::NormKind::Layer => NormKind::Layer,
                t::NormKind::Rms => NormKind::Rms,
            },
            rope: view.rope,
            head_norms: a.qk_norm == Some(QkNorm::Head),
        }
    }

    /// The products of a block, with what follows each in the same pass.
    pub fn layers(&self) -> [(&'static str, Layer); 4] {
        let layer =
            |inputs, outputs| Layer { inputs, outputs, gated: false, activation: Activation::Identity, adds: false };
        let heads = self.attention.out_width();
        [
            ("qkv", layer(self.hidden, self.attention.qkv_width())),
            ("out", Layer { adds: true, ..layer(heads, self.hidden) }),
            ("up", Layer { gated: self.gated, activation: self.activation, ..layer(self.hidden, self.inner) }),
            ("down", Layer { adds: true, ..layer(self.inner, self.hidden) }),
        ]
    }
}
