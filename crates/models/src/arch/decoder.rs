//! What Llama and its descendants share: the names of tensors, norms before each part, rotary positions, grouped keys, a gated MLP.

use crate::{
    AttentionSpec, Blueprint, EmbeddingSpec, MlpSpec, NormPlace, NormSpec, Positions, QkNorm, Role, RopeSpec, View,
    config::{Config, limit, malformed, unsupported},
    rope,
};
use embral_types::{Activation, Mask, NormKind, Result};
use serde_json::Value;

pub(super) const PREFIXES: &[&str] = &["", "model."];

/// The tensors of a block and those around it, with the places of two of its norms.
macro_rules! names {
    ($($more:expr),* $(,)?) => {
        &[
            (Role::Word, "embed_tokens"),
            (Role::AttentionNorm, "layers.{}.input_layernorm"),
            (Role::Query, "layers.{}.self_attn.q_proj"),
            (Role::Key, "layers.{}.self_attn.k_proj"),
            (Role::Value, "layers.{}.self_attn.v_proj"),
            (Role::AttentionOut, "layers.{}.self_attn.o_proj"),
            (Role::Gate, "layers.{}.mlp.gate_proj"),
            (Role::Up, "layers.{}.mlp.up_proj"),
            (Role::Down, "layers.{}.mlp.down_proj"),
            (Role::FinalNorm, "norm"),
            $($more),*
        ]
    };
}
pub(super) use names;

/// The names without norms of heads.
pub(super) const NAMES: crate::WeightNames = crate::WeightNames {
    prefixes: PREFIXES,
    templates: names![(Role::MlpNorm, "layers.{}.post_attention_layernorm")],
    blocks: &[],
    whole: &[],
};

/// In what the family of a model differs from others.
pub(super) struct Family {
    /// Components of a head where the configuration does not say; `None` for the share of a head in `hidden_size`.
    pub(super) head_dim: Option<usize>,
    /// Whether q, k and v have biases.
    pub(super) qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub(super) out_bias: bool,
    /// Whether the layers of the MLP have biases.
    pub(super) mlp_bias: bool,
    pub(super) qk_norm: Option<QkNorm>,
    pub(super) max_positions: usize,
}

/// The blueprint, its blocks seeing what the mask of the family shows; `window` says how wide a window is, and which blocks have one.
pub(super) fn blueprint(config: Config<'_>, family: &Family, window: &Window) -> Result<Blueprint> {
    let hidden = config.number("hidden_size", limit::WIDTH)?;
    let layers = config.number("num_hidden_layers", limit::LAYERS)?;
    let (heads, kv_heads, head_dim) = heads(config, hidden, family.head_dim)?;
    let rope = rope::read(config, 10_000.0, head_dim)?;
    Ok(Blueprint {
        vocab: config.number("vocab_size", limit::VOCAB)?,
        hidden,
        layers,
        embedding: EmbeddingSpec { positions: Positions::None, token_types: 0, norm: false, scale: 1.0 },
        attention: AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            views: window.views(is_causal(config)?, rope),
            qkv_bias: family.qkv_bias,
            out_bias: family.out_bias,
            qk_norm: family.qk_norm,
            bias: None,
        },
        mlp: MlpSpec {
            width: config.number("intermediate_size", limit::MLP)?,
            gated: true,
            activation: config.activation("hidden_act", Activation::Silu)?,
            up_bias: family.mlp_bias,
            down_bias: family.mlp_bias,
            experts: None,
        },
        norm: NormSpec {
            kind: NormKind::Rms,
            eps: config.positive_or("rms_norm_eps", 1e-6)?,
            bias: false,
            less_one: false,
        },
        norm_place: NormPlace::Pre,
        first_norm: true,
        final_norm: true,
        max_positions: config.number_or("max_position_embeddings", family.max_positions, limit::POSITIONS)?,
    })
}

/// Query heads, key heads and their width.
pub(super) fn heads(config: Config<'_>, hidden: usize, standard: Option<usize>) -> Result<(usize, usize, usize)> {
    let heads = config.number("num_attention_heads", limit::WIDTH)?;
    let kv_heads = config.number_or("num_key_value_heads", heads, 1..=heads)?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(malformed(format!(
            "num_key_value_heads: expected a divisor of num_attention_heads {heads}, found {kv_heads}"
        )));
    }
    let head_dim = match (config.optional_number("head_dim", 2..=1_024)?, standard) {
        (Some(stated), _) => stated,
        (None, Some(standard)) => standard,
        (None, None) => config.heads("num_attention_heads", hidden)?.1,
    };
    if !head_dim.is_multiple_of(2) {
        return Err(malformed(format!("head_dim: expected an even number, found {head_dim}")));
    }
    if heads * head_dim > *limit::MLP.end() {
        let product = heads * head_dim;
        return Err(malformed(format!(
            "num_attention_heads: expected at most {} components in all heads, found {product}",
            limit::MLP.end()
        )));
    }
    Ok((heads, kv_heads, head_dim))
}

/// Whether a token sees only itself and those before it. Embedding models made of decoders state otherwise in one of two keys.
pub(super) fn is_causal(config: Config<'_>) -> Result<bool> {
    Ok(config.flag_or("is_causal", true)? && !config.flag_or("use_bidirectional_attention", false)?)
}

/// Which blocks see a window only.
pub(super) struct Window {
    /// One entry a block.
    pub(super) local: Vec<bool>,
    /// `sliding_window` of the configuration, where a block has one: the tokens that a causal block sees.
    pub(super) size: usize,
}

impl Window {
    /// No block has one.
    pub(super) fn none(config: Config<'_>) -> Result<Self> {
        Ok(Self { local: vec![false; config.number("num_hidden_layers", limit::LAYERS)?], size: 0 })
    }

    /// Those that `layer_types` names, or else those of `standard`; `size` is what the configuration says.
    pub(super) fn read(config: Config<'_>, size: Option<usize>, standard: impl Fn(usize) -> bool) -> Result<Self> {
        let layers = config.number("num_hidden_layers", limit::LAYERS)?;
        let local = local_layers(config, layers)?.unwrap_or_else(|| (0..layers).map(standard).collect());
        match size {
            Some(size) => Ok(Self { local, size }),
            None if local.contains(&true) => Err(malformed("sliding_window: the number is missing")),
            None => Ok(Self { local, size: 0 }),
        }
    }

    fn views(&self, causal: bool, rope: RopeSpec) -> Vec<View> {
        let mask = |local| match (local, causal) {
            (false, true) => Mask::Causal,
            (false, false) => Mask::Full,
            // A causal window has the token itself among its tokens; one on both sides has as many on each.
            (true, true) => Mask::CausalWindow(self.size - 1),
            (true, false) => Mask::Window(self.size),
        };
        self.local.iter().map(|&local| View { mask: mask(local), rope: Some(rope) }).collect()
    }
}

/// `layer_types`: whether each block sees a window only.
pub(super) fn local_layers(config: Config<'_>, layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(value) = config.get("layer_types") else { return Ok(None) };
    let Value::Array(types) = value else {
        return Err(malformed(format!("layer_types: expected a list, found {}", crate::config::brief(value))));
    };
    if types.len() != layers {
        let found = types.len();
        return Err(malformed(format!("layer_types: expected {layers} entries, one a layer, found {found}")));
    }
    let local = types.iter().map(|kind| match kind.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(unsupported(format!("layer_types: expected full_attention or sliding_attention, found {kind}"))),
    });
    local.collect::<Result<_>>().map(Some)
}
