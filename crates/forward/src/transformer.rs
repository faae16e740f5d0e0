//! Encoders made of blocks of attention and a perceptron.

use crate::{
    distance::Distances,
    load::Loader,
    precisions::{Precisions, Site},
};
use embral_backend::{Attention, Backend, Bias, Dense, Embedding, Experts, Pool, Rope};
use embral_formats::Weights;
use embral_models::{Blueprint, ExpertsSpec, MlpSpec, NormPlace, Positions, Role, View, WeightNames};
use embral_types::{Batch, Precision, Result, Tensor};
use std::mem::swap;

/// The weights of a model on a backend, and how they are put together.
pub struct Transformer<B: Backend> {
    blueprint: Blueprint,
    word: B::Table,
    position: Option<(B::Table, usize)>,
    kind: Option<B::Table>,
    embedding_norm: Option<B::Norm>,
    distances: Option<Distances<B>>,
    blocks: Vec<Block<B>>,
    final_norm: Option<B::Norm>,
}

struct Block<B: Backend> {
    qkv: B::Linear,
    head_norms: Option<(B::Norm, B::Norm)>,
    rope: Option<Rope>,
    attention: Attention,
    out: B::Linear,
    /// None in a first block without one.
    attention_norm: Option<B::Norm>,
    mlp: Mlp<B>,
    mlp_norm: B::Norm,
    /// Of what the attention adds.
    attention_out_norm: Option<B::Norm>,
    /// Of what the perceptron adds.
    mlp_out_norm: Option<B::Norm>,
}

enum Mlp<B: Backend> {
    Dense { up: B::Linear, down: B::Linear },
    Experts(Experts<B>),
}

impl<B: Backend> Mlp<B> {
    fn dense(backend: &B, mlp: &MlpSpec, from: &Loader<'_>, layer: usize, precisions: &Precisions) -> Result<Self> {
        let up = from.dense(Role::Up, layer, mlp.up_bias)?;
        let precision = precisions.of(layer, Site::Up);
        let up = if mlp.gated {
            backend.load_gated(&from.dense(Role::Gate, layer, mlp.up_bias)?, &up, precision)?
        } else {
            backend.load_linear(&[up], precision)?
        };
        let down = from.dense(Role::Down, layer, mlp.down_bias)?;
        Ok(Self::Dense { up, down: backend.load_linear(&[down], precisions.of(layer, Site::Down))? })
    }

    /// Exchanges the layers of a site with those of `other`.
    fn swap(&mut self, other: &mut Self, site: Site) {
        match (self, other, site) {
            (Self::Dense { up, .. }, Self::Dense { up: theirs, .. }, Site::Up) => swap(up, theirs),
            (Self::Dense { down, .. }, Self::Dense { down: theirs, .. }, _) => swap(down, theirs),
            (Self::Experts(ours), Self::Experts(theirs), Site::Up) => swap(&mut ours.up, &mut theirs.up),
            (Self::Experts(ours), Self::Experts(theirs), _) => swap(&mut ours.down, &mut theirs.down),
            _ => unreachable!("the same model has the same blocks"),
        }
    }
}

impl<B: Backend> Transformer<B> {
    /// Loads every tensor that the blueprint asks for; the products of its blocks are of the numbers that
    /// `precisions` names.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape than the blueprint says, or holds a value that is not finite.
    pub fn load(
        backend: &B,
        blueprint: &Blueprint,
        names: &WeightNames,
        weights: &dyn Weights,
        precisions: &Precisions,
    ) -> Result<Self> {
        embral_models::check_shapes(blueprint, names, weights)?;
        let from = Loader { names, weights };
        let table = |role| backend.load_table(&from.weight(role, 0)?);
        let norm = |role, layer| from.norm(backend, &blueprint.norm, role, layer);
        let position = match blueprint.embedding.positions {
            Positions::None => None,
            Positions::Learned { offset, .. } => Some((table(Role::Position)?, offset)),
        };
        let blocks = (0..blueprint.layers)
            .map(|layer| Block::load(backend, blueprint, &from, layer, precisions))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            word: table(Role::Word)?,
            position,
            kind: (blueprint.embedding.token_types > 0).then(|| table(Role::TokenType)).transpose()?,
            embedding_norm: blueprint.embedding.norm.then(|| norm(Role::EmbeddingNorm, 0)).transpose()?,
            distances: Distances::load(backend, blueprint, &from)?,
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

    /// Gives `other`, the same model in other numbers, this model's products of a site, and takes those of the other: what a site
    /// does by itself is seen without loading the model again.
    ///
    /// # Panics
    /// Where one of them has no such layer.
    pub fn exchange(&mut self, other: &mut Self, layer: usize, site: Site) {
        let (ours, theirs) = (&mut self.blocks[layer], &mut other.blocks[layer]);
        match site {
            Site::Qkv => swap(&mut ours.qkv, &mut theirs.qkv),
            Site::Attention => swap(&mut ours.attention.precision, &mut theirs.attention.precision),
            Site::Out => swap(&mut ours.out, &mut theirs.out),
            Site::Up | Site::Down => ours.mlp.swap(&mut theirs.mlp, site),
        }
    }

    /// One row a token, `[batch.tokens(), hidden]`. `observe` sees the rows behind each block, before a final norm.
    ///
    /// # Errors
    /// Where a buffer cannot be had, and those of `observe`, which end the pass.
    pub fn rows(
        &self,
        backend: &B,
        plan: &B::Plan,
        batch: &Batch,
        observe: &mut dyn FnMut(usize, &B::Buffer) -> Result<()>,
    ) -> Result<B::Buffer> {
        let rows = batch.tokens();
        let hidden = self.blueprint.hidden;
        let mut x = backend.buffer(rows, hidden)?;
        let tables = Embedding {
            word: &self.word,
            position: self.position.as_ref().map(|(table, offset)| (table, *offset)),
            padding: match self.blueprint.embedding.positions {
                Positions::Learned { padding, .. } => padding,
                Positions::None => None,
            },
            kind: self.kind.as_ref(),
            scale: self.blueprint.embedding.scale,
            norm: self.embedding_norm.as_ref(),
        };
        backend.embed(plan, &tables, &mut x)?;
        let a = &self.blueprint.attention;
        let mut scratch = Scratch {
            qkv: backend.buffer(rows, (a.heads + 2 * a.kv_heads) * a.head_dim)?,
            heads: backend.buffer(rows, a.heads * a.head_dim)?,
            inner: backend.buffer(rows, self.blueprint.mlp.width)?,
            branch: match self.blueprint.norm_place {
                NormPlace::Pre | NormPlace::Both | NormPlace::PostTwice => Some(backend.buffer(rows, hidden)?),
                NormPlace::Post => None,
            },
        };
        for (layer, block) in self.blocks.iter().enumerate() {
            let bias = self.distances.as_ref().map_or(Bias::None, |distances| distances.of(layer));
            self.block(backend, plan, (block, bias), &mut x, rows, &mut scratch)?;
            observe(layer, &x)?;
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

    /// Post: `x = norm(x + attention(x)); x = norm(x + mlp(x))`; with norms twice `x = norm(x + norm(x + attention(x)))`.
    /// Pre: `x += attention(norm(x)); x += mlp(norm(x))`.
    /// Both: `x += norm(attention(norm(x))); x += norm(mlp(norm(x)))`.
    fn block(
        &self,
        backend: &B,
        plan: &B::Plan,
        (block, bias): (&Block<B>, Bias<'_, B>),
        x: &mut B::Buffer,
        rows: usize,
        s: &mut Scratch<B>,
    ) -> Result<()> {
        use embral_types::Activation::Identity;
        let place = self.blueprint.norm_place;
        let before = matches!(place, NormPlace::Pre | NormPlace::Both);
        if let (Some(branch), Some(norm), true) = (&mut s.branch, &block.attention_norm, before) {
            backend.norm(x, norm, branch)?;
        }
        let read = s.branch.as_ref().filter(|_| before && block.attention_norm.is_some()).unwrap_or(x);
        backend.linear(read, &block.qkv, Identity, &mut s.qkv)?;
        if let Some((query, key)) = &block.head_norms {
            backend.norm_query_key(&mut s.qkv, &block.attention, query, key)?;
        }
        if let Some(rope) = &block.rope {
            backend.rotate(plan, &mut s.qkv, &block.attention, rope)?;
        }
        backend.attention(plan, &s.qkv, &block.attention, bias, &mut s.heads)?;
        match (&mut s.branch, &block.attention_out_norm) {
            (Some(branch), Some(norm)) => {
                backend.linear(&s.heads, &block.out, Identity, branch)?;
                if place == NormPlace::PostTwice {
                    backend.add(x, branch)?;
                }
                backend.norm_add(branch, norm, x)?;
            }
            _ => backend.linear_add(&s.heads, &block.out, x)?,
        }
        if let (false, Some(norm)) = (before, &block.attention_norm) {
            backend.norm_in_place(x, norm)?;
        }
        if let (Some(branch), true) = (&mut s.branch, before) {
            backend.norm(x, &block.mlp_norm, branch)?;
        }
        let read = s.branch.as_ref().filter(|_| before).unwrap_or(x);
        let activation = self.blueprint.mlp.activation;
        match &block.mlp {
            Mlp::Dense { up, down } => {
                backend.linear(read, up, activation, &mut s.inner)?;
                match (&mut s.branch, &block.mlp_out_norm) {
                    (Some(branch), Some(norm)) => {
                        backend.linear(&s.inner, down, Identity, branch)?;
                        backend.norm_add(branch, norm, x)?;
                    }
                    _ => backend.linear_add(&s.inner, down, x)?,
                }
            }
            Mlp::Experts(experts) => {
                let mut sum = backend.buffer(rows, self.blueprint.hidden)?;
                backend.experts(read, experts, activation, &mut sum)?;
                match &block.mlp_out_norm {
                    Some(norm) => backend.norm_add(&sum, norm, x)?,
                    None => backend.add(&sum, x)?,
                }
            }
        }
        if before { Ok(()) } else { backend.norm_in_place(x, &block.mlp_norm) }
    }
}

/// What a block writes between its input and its output; the same for every block.
struct Scratch<B: Backend> {
    qkv: B::Buffer,
    heads: B::Buffer,
    inner: B::Buffer,
    /// The normed input of a part, or what it adds to the running sum; none where norms come after the sum only.
    branch: Option<B::Buffer>,
}

impl<B: Backend> Block<B> {
    fn load(
        backend: &B,
        blueprint: &Blueprint,
        from: &Loader<'_>,
        layer: usize,
        precisions: &Precisions,
    ) -> Result<Self> {
        let of = |site| precisions.of(layer, site);
        let norm = |role| from.norm(backend, &blueprint.norm, role, layer);
        let (a, mlp) = (&blueprint.attention, &blueprint.mlp);
        let View { mask, rope } = a.views[layer];
        let qkv = [Role::Query, Role::Key, Role::Value]
            .into_iter()
            .map(|role| from.dense(role, layer, a.qkv_bias))
            .collect::<Result<Vec<_>>>()?;
        let two = |first, second| Ok::<_, embral_types::Error>((norm(first)?, norm(second)?));
        Ok(Self {
            qkv: backend.load_linear(&qkv, of(Site::Qkv))?,
            head_norms: a.qk_norm.map(|_| two(Role::QueryNorm, Role::KeyNorm)).transpose()?,
            rope: rope.map(|rope| Rope {
                frequencies: rope.frequencies(),
                factor: rope.attention_factor(),
                interleaved: rope.interleaved,
            }),
            attention: Attention {
                heads: a.heads,
                kv_heads: a.kv_heads,
                dim: a.head_dim,
                scale: a.scale,
                mask,
                precision: of(Site::Attention),
            },
            out: backend.load_linear(&[from.dense(Role::AttentionOut, layer, a.out_bias)?], of(Site::Out))?,
            attention_norm: blueprint.has_attention_norm(layer).then(|| norm(Role::AttentionNorm)).transpose()?,
            mlp: match mlp.experts_of(layer) {
                Some(spec) => Mlp::Experts(experts(backend, blueprint, spec, from, layer, precisions)?),
                None => Mlp::dense(backend, mlp, from, layer, precisions)?,
            },
            mlp_norm: norm(Role::MlpNorm)?,
            attention_out_norm: matches!(blueprint.norm_place, NormPlace::Both | NormPlace::PostTwice)
                .then(|| norm(Role::AttentionOutNorm))
                .transpose()?,
            mlp_out_norm: (blueprint.norm_place == NormPlace::Both).then(|| norm(Role::MlpOutNorm)).transpose()?,
        })
    }
}

/// The tensor borrowed, so that a slice of it copies nothing, also where it was decoded.
fn view<'t>(tensor: &'t Tensor<'_>) -> Tensor<'t> {
    Tensor::new(tensor.dtype(), tensor.shape().to_vec(), tensor.bytes())
}

/// The router is of f32 in any precision: a token that is sent elsewhere is another token.
fn experts<B: Backend>(
    backend: &B,
    blueprint: &Blueprint,
    spec: &ExpertsSpec,
    from: &Loader<'_>,
    layer: usize,
    precisions: &Precisions,
) -> Result<Experts<B>> {
    let (hidden, width) = (blueprint.hidden, blueprint.mlp.width);
    let (ups, downs) = (from.weight(Role::ExpertsUp, layer)?, from.weight(Role::ExpertsDown, layer)?);
    let load = |weight, site| backend.load_linear(&[Dense { weight, bias: None }], precisions.of(layer, site));
    let rows = |expert: usize| expert * width..(expert + 1) * width;
    let down = |expert| {
        if spec.down_by_output {
            return view(&downs).slice(expert * hidden..(expert + 1) * hidden);
        }
        let values = view(&downs).slice(rows(expert)).to_f32();
        let columns = (0..hidden).flat_map(|c| values.iter().skip(c).step_by(hidden).copied());
        Tensor::from_f32(vec![hidden, width], &columns.collect::<Vec<f32>>())
    };
    let bias = if spec.bias { from.weight(Role::ExpertsBias, layer)?.to_f32() } else { vec![0.0; hidden] };
    Ok(Experts {
        router: backend.load_linear(&[from.dense(Role::Router, layer, false)?], Precision::F32)?,
        up: (0..spec.count).map(|e| load(view(&ups).slice(rows(e)), Site::Up)).collect::<Result<_>>()?,
        down: (0..spec.count).map(|e| load(down(e), Site::Down)).collect::<Result<_>>()?,
        bias: backend.load_table(&Tensor::from_f32(vec![1, hidden], &bias))?,
        chosen: spec.chosen,
        inner: width,
    })
}
