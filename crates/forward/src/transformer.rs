//! Encoders made of blocks of attention and a perceptron.

use crate::load::Loader;
use embral_backend::{Attention, Backend, Embedding, Pool, Rope};
use embral_formats::Weights;
use embral_models::{Blueprint, NormPlace, Positions, Role, WeightNames};
use embral_types::{Batch, Precision, Result};

/// The weights of a model on a backend, and how they are put together.
pub struct Transformer<B: Backend> {
    blueprint: Blueprint,
    attention: Attention,
    rope: Option<Rope>,
    word: B::Table,
    position: Option<(B::Table, usize)>,
    kind: Option<B::Table>,
    embedding_norm: Option<B::Norm>,
    blocks: Vec<Block<B>>,
    final_norm: Option<B::Norm>,
}

struct Block<B: Backend> {
    qkv: B::Linear,
    out: B::Linear,
    attention_norm: B::Norm,
    head_norms: Option<(B::Norm, B::Norm)>,
    up: B::Linear,
    down: B::Linear,
    mlp_norm: B::Norm,
}

impl<B: Backend> Transformer<B> {
    /// Loads every tensor that the blueprint asks for; the linear layers of its blocks become products of `precision`.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape than the blueprint says, or holds a value that is not finite.
    pub fn load(
        backend: &B,
        blueprint: &Blueprint,
        names: &WeightNames,
        weights: &dyn Weights,
        precision: Precision,
    ) -> Result<Self> {
        embral_models::check_shapes(blueprint, names, weights)?;
        let from = Loader { names, weights };
        let table = |role| backend.load_table(&from.weight(role, 0)?);
        let norm = |role, layer| from.norm(backend, &blueprint.norm, role, layer);
        let a = &blueprint.attention;
        let attention = Attention {
            heads: a.heads,
            kv_heads: a.kv_heads,
            dim: a.head_dim,
            scale: a.scale,
            mask: a.mask,
            precision,
        };
        let position = match blueprint.embedding.positions {
            Positions::None => None,
            Positions::Learned { offset, .. } => Some((table(Role::Position)?, offset)),
        };
        let blocks = (0..blueprint.layers)
            .map(|layer| Block::load(backend, blueprint, &from, layer, precision))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            attention,
            rope: a.rope.map(|r| Rope { theta: r.theta, rotary_dims: r.rotary_dims, interleaved: r.interleaved }),
            word: table(Role::Word)?,
            position,
            kind: (blueprint.embedding.token_types > 0).then(|| table(Role::TokenType)).transpose()?,
            embedding_norm: blueprint.embedding.norm.then(|| norm(Role::EmbeddingNorm, 0)).transpose()?,
            blocks,
            final_norm: blueprint.final_norm.then(|| norm(Role::FinalNorm, 0)).transpose()?,
            blueprint: blueprint.clone(),
        })
    }

    /// The ids that have a row: those below it.
    pub fn ids(&self) -> usize {
        self.blueprint.vocab
    }

    /// The width of a row.
    pub fn hidden(&self) -> usize {
        self.blueprint.hidden
    }

    /// One row a token, `[batch.tokens(), hidden]`.
    pub fn rows(&self, backend: &B, plan: &B::Plan, batch: &Batch) -> Result<B::Buffer> {
        let rows = batch.tokens();
        let hidden = self.blueprint.hidden;
        let mut x = backend.buffer(rows, hidden)?;
        let tables = Embedding {
            word: &self.word,
            position: self.position.as_ref().map(|(table, offset)| (table, *offset)),
            kind: self.kind.as_ref(),
            scale: self.blueprint.embedding.scale,
            norm: self.embedding_norm.as_ref(),
        };
        backend.embed(plan, &tables, &mut x)?;
        let mut scratch = Scratch {
            qkv: backend.buffer(rows, self.attention.input_width())?,
            heads: backend.buffer(rows, self.attention.output_width())?,
            inner: backend.buffer(rows, self.blueprint.mlp.width)?,
            normed: match self.blueprint.norm_place {
                NormPlace::Pre => Some(backend.buffer(rows, hidden)?),
                NormPlace::Post => None,
            },
        };
        for block in &self.blocks {
            self.block(backend, plan, block, &mut x, &mut scratch)?;
        }
        if let Some(n) = &self.final_norm {
            backend.norm_in_place(&mut x, n)?;
        }
        Ok(x)
    }

    /// One row a sequence, `[batch.len(), hidden]`.
    pub fn pool(&self, backend: &B, plan: &B::Plan, rows: &B::Buffer, batch: &Batch, pool: Pool) -> Result<B::Buffer> {
        let mut y = backend.buffer(batch.len(), self.blueprint.hidden)?;
        backend.pool(plan, rows, pool, &mut y)?;
        Ok(y)
    }

    /// Post: `x = norm(x + attention(x)); x = norm(x + mlp(x))`.
    /// Pre: `x += attention(norm(x)); x += mlp(norm(x))`.
    fn block(
        &self,
        backend: &B,
        plan: &B::Plan,
        block: &Block<B>,
        x: &mut B::Buffer,
        s: &mut Scratch<B>,
    ) -> Result<()> {
        use embral_types::Activation::Identity;
        if let Some(normed) = &mut s.normed {
            backend.norm(x, &block.attention_norm, normed)?;
        }
        backend.linear(s.normed.as_ref().unwrap_or(x), &block.qkv, Identity, &mut s.qkv)?;
        if let Some((query, key)) = &block.head_norms {
            backend.norm_heads(&mut s.qkv, &self.attention, query, key)?;
        }
        if let Some(rope) = &self.rope {
            backend.rotate(plan, &mut s.qkv, &self.attention, rope)?;
        }
        backend.attention(plan, &s.qkv, &self.attention, &mut s.heads)?;
        backend.linear_add(&s.heads, &block.out, x)?;
        match &mut s.normed {
            Some(normed) => backend.norm(x, &block.mlp_norm, normed)?,
            None => backend.norm_in_place(x, &block.attention_norm)?,
        }
        backend.linear(s.normed.as_ref().unwrap_or(x), &block.up, self.blueprint.mlp.activation, &mut s.inner)?;
        backend.linear_add(&s.inner, &block.down, x)?;
        match s.normed {
            Some(_) => Ok(()),
            None => backend.norm_in_place(x, &block.mlp_norm),
        }
    }
}

/// What a block writes between its input and its output; the same for every block.
struct Scratch<B: Backend> {
    qkv: B::Buffer,
    heads: B::Buffer,
    inner: B::Buffer,
    /// The normed input, where norms come before the layers; the input itself is then the running sum.
    normed: Option<B::Buffer>,
}

impl<B: Backend> Block<B> {
    fn load(backend: &B, blueprint: &Blueprint, from: &Loader<'_>, layer: usize, precision: Precision) -> Result<Self> {
        let norm = |role| from.norm(backend, &blueprint.norm, role, layer);
        let a = &blueprint.attention;
        let mlp = &blueprint.mlp;
        let qkv = [Role::Query, Role::Key, Role::Value]
            .into_iter()
            .map(|role| from.dense(role, layer, a.qkv_bias))
            .collect::<Result<Vec<_>>>()?;
        let up = from.dense(Role::Up, layer, mlp.bias)?;
        let up = if mlp.gated {
            backend.load_gated(&from.dense(Role::Gate, layer, mlp.bias)?, &up, precision)?
        } else {
            backend.load_linear(&[up], precision)?
        };
        // Query and key norms have no shift in any model that has them.
        let head_norm =
            |role| backend.load_norm(blueprint.norm.kind, &from.weight(role, layer)?, None, blueprint.norm.eps);
        Ok(Self {
            qkv: backend.load_linear(&qkv, precision)?,
            out: backend.load_linear(&[from.dense(Role::AttentionOut, layer, a.out_bias)?], precision)?,
            attention_norm: norm(Role::AttentionNorm)?,
            head_norms: if a.qk_norm { Some((head_norm(Role::QueryNorm)?, head_norm(Role::KeyNorm)?)) } else { None },
            up,
            down: backend.load_linear(&[from.dense(Role::Down, layer, mlp.bias)?], precision)?,
            mlp_norm: norm(Role::MlpNorm)?,
        })
    }
}
