//! Each op of the backend as a call of a kernel.

use crate::{Bag, Buffer, Cpu, Linear, Norm, Plan, Table, mixture};
use embral_backend::{Attention, Backend, Bias, Dense, Embedding, Experts, Pool, Rope};
use embral_kernels::op;
use embral_types::{Activation, Batch, Mask, NormKind, Pooling, Precision, Result, Tensor};

impl Backend for Cpu {
    type Buffer = Buffer;
    type Linear = Linear;
    type Norm = Norm;
    type Table = Table;
    type Bag = Bag;
    type Plan = Plan;

    fn describe(&self) -> String {
        format!("cpu ({}, {} threads)", self.isa().name(), self.pool.threads())
    }

    fn load_linear(&self, parts: &[Dense<'_>], precision: Precision) -> Result<Linear> {
        Linear::side_by_side(parts, numbers(precision), self.packed.as_ref())
    }

    fn load_gated(&self, gate: &Dense<'_>, up: &Dense<'_>, precision: Precision) -> Result<Linear> {
        Linear::gated(gate, up, numbers(precision), self.packed.as_ref())
    }

    fn load_norm(&self, kind: NormKind, gamma: &Tensor<'_>, beta: Option<&Tensor<'_>>, eps: f32) -> Result<Norm> {
        Norm::new(kind, gamma, beta, eps)
    }

    fn load_table(&self, table: &Tensor<'_>) -> Result<Table> {
        Table::new(table)
    }

    fn load_bag(&self, table: &Tensor<'_>, weights: Option<&Tensor<'_>>, mapping: Option<&Tensor<'_>>) -> Result<Bag> {
        Bag::new(table, weights, mapping)
    }

    fn plan(&self, batch: &Batch) -> Result<Plan> {
        Ok(Plan {
            ids: batch.ids().to_vec(),
            offsets: batch.offsets().to_vec(),
            segments: batch.segments().to_vec(),
            seen: batch.seen().to_vec(),
        })
    }

    fn buffer(&self, rows: usize, width: usize) -> Result<Buffer> {
        Ok(self.arena.take(rows, width))
    }

    fn embed(&self, plan: &Plan, tables: &Embedding<'_, Self>, y: &mut Buffer) -> Result<()> {
        let t = op::embed::EmbedTables {
            word: &tables.word.data,
            position: tables.position.map(|(table, first)| op::embed::Positions {
                table: &table.data,
                first,
                padding: tables.padding,
            }),
            kind: tables.kind.map(|table| (&table.data[..], &plan.segments[..])),
            width: y.width,
            scale: tables.scale,
        };
        let norm = tables.norm.map(Norm::view);
        op::embed::embed(&self.pool, &plan.ids, &plan.offsets, &t, norm.as_ref(), y.values_mut());
        Ok(())
    }

    fn linear(&self, x: &Buffer, w: &Linear, activation: Activation, y: &mut Buffer) -> Result<()> {
        self.product(x, w, activation, op::gemm::Residual::None, y);
        Ok(())
    }

    fn linear_add(&self, x: &Buffer, w: &Linear, y: &mut Buffer) -> Result<()> {
        self.product(x, w, Activation::Identity, op::gemm::Residual::InPlace, y);
        Ok(())
    }

    fn experts(&self, x: &Buffer, experts: &Experts<Self>, activation: Activation, y: &mut Buffer) -> Result<()> {
        mixture::experts(self, x, experts, activation, y);
        Ok(())
    }

    fn add(&self, x: &Buffer, y: &mut Buffer) -> Result<()> {
        y.values_mut().iter_mut().zip(x.values()).for_each(|(y, x)| *y += x);
        Ok(())
    }

    fn norm(&self, x: &Buffer, n: &Norm, y: &mut Buffer) -> Result<()> {
        op::norm::norm(&self.pool, x.values(), &n.view(), y.values_mut());
        Ok(())
    }

    fn norm_in_place(&self, x: &mut Buffer, n: &Norm) -> Result<()> {
        op::norm::norm_in_place(&self.pool, x.values_mut(), &n.view());
        Ok(())
    }

    fn norm_add(&self, x: &Buffer, n: &Norm, y: &mut Buffer) -> Result<()> {
        op::norm::norm_add(&self.pool, x.values(), &n.view(), y.values_mut());
        Ok(())
    }

    fn norm_query_key(&self, qkv: &mut Buffer, attention: &Attention, query: &Norm, key: &Norm) -> Result<()> {
        op::rope::head_norm(&self.pool, qkv.values_mut(), &shape(attention), &query.view(), &key.view());
        Ok(())
    }

    fn rotate(&self, plan: &Plan, qkv: &mut Buffer, attention: &Attention, rope: &Rope) -> Result<()> {
        let r = op::rope::Rope { frequencies: &rope.frequencies, factor: rope.factor, interleaved: rope.interleaved };
        op::rope::rope(&self.pool, qkv.values_mut(), &plan.offsets, &shape(attention), &r);
        Ok(())
    }

    fn attention(
        &self,
        plan: &Plan,
        qkv: &Buffer,
        attention: &Attention,
        bias: Bias<'_, Self>,
        y: &mut Buffer,
    ) -> Result<()> {
        use op::attention::{
            DistanceBias, RelativeBias, Sequences, attention_among, attention_biased, attention_relative,
        };
        let (shape, out) = (shape(attention), y.values_mut());
        let sequences = Sequences { offsets: &plan.offsets, seen: &plan.seen };
        let (pool, qkv) = (&self.pool, qkv.values());
        // Scores of 8-bit integers would be too coarse for a softmax.
        let bf16 = attention.precision != Precision::F32;
        match bias {
            Bias::None => attention_among(pool, qkv, sequences, &shape, bf16, out),
            Bias::Distance(table) => {
                let bias = DistanceBias { values: &table.data, heads: attention.heads };
                attention_biased(pool, qkv, sequences, &shape, bias, bf16, out);
            }
            Bias::Relative(relative) => {
                let bias = RelativeBias {
                    keys: relative.keys.as_ref().map(Buffer::values),
                    queries: relative.queries.as_ref().map(Buffer::values),
                    distances: &relative.distances,
                };
                attention_relative(pool, qkv, sequences, &shape, bias, bf16, out);
            }
        }
        Ok(())
    }

    fn pool(&self, plan: &Plan, x: &Buffer, pool: Pool, y: &mut Buffer) -> Result<()> {
        let how = match pool.how {
            Pooling::Mean => op::pooling::Pooling::Mean,
            Pooling::Cls => op::pooling::Pooling::Cls,
            Pooling::Max => op::pooling::Pooling::Max,
            Pooling::Last => op::pooling::Pooling::Last,
        };
        let width = x.width;
        let rows = |offsets: &[u32], out: &mut [f32]| {
            op::pooling::pool_rows(&self.pool, x.values(), offsets, width, how, pool.l2, out);
        };
        if pool.skip == 0 {
            rows(&plan.offsets, y.values_mut());
            return Ok(());
        }
        // Each sequence as two, what is left out and what is pooled; every second row is kept.
        let mut offsets = vec![0];
        for ends in plan.offsets.windows(2) {
            offsets.extend([(ends[0] as usize + pool.skip).min(ends[1] as usize) as u32, ends[1]]);
        }
        let mut both = self.arena.take(offsets.len() - 1, width);
        rows(&offsets, both.values_mut());
        for (kept, two) in y.values_mut().chunks_exact_mut(width).zip(both.values().chunks_exact(2 * width)) {
            kept.copy_from_slice(&two[width..]);
        }
        Ok(())
    }

    fn bag(&self, plan: &Plan, bag: &Bag, l2: bool, y: &mut Buffer) -> Result<()> {
        op::bag::bag(&self.pool, &plan.ids, &plan.offsets, &bag.view(), l2, y.values_mut());
        Ok(())
    }

    fn finish(&self, x: &Buffer, l2: bool, y: &mut Buffer) -> Result<()> {
        let width = y.width;
        for (from, to) in x.values().chunks_exact(x.width).zip(y.values_mut().chunks_exact_mut(width)) {
            to.copy_from_slice(&from[..width]);
        }
        if l2 {
            op::pooling::l2_normalize(&self.pool, y.values_mut(), width);
        }
        Ok(())
    }

    fn write(&self, values: &[f32], y: &mut Buffer) -> Result<()> {
        y.values_mut().copy_from_slice(values);
        Ok(())
    }

    fn rows(&self, x: &Buffer, first: usize, y: &mut Buffer) -> Result<()> {
        let (width, len) = (x.width, y.values().len());
        y.values_mut().copy_from_slice(&x.values()[first * width..][..len]);
        Ok(())
    }

    fn read(&self, x: &Buffer, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(x.values());
        Ok(())
    }
}

impl Cpu {
    pub(crate) fn product(
        &self,
        x: &Buffer,
        w: &Linear,
        activation: Activation,
        residual: op::gemm::Residual<'_>,
        y: &mut Buffer,
    ) {
        let activation = match activation {
            Activation::Identity => op::activation::Activation::Identity,
            Activation::GeluErf => op::activation::Activation::GeluErf,
            Activation::GeluTanh => op::activation::Activation::GeluTanh,
            Activation::Silu => op::activation::Activation::Silu,
            Activation::Relu => op::activation::Activation::Relu,
            Activation::Tanh => op::activation::Activation::Tanh,
        };
        let epilogue = op::gemm::Epilogue { bias: w.bias.as_deref(), activation, residual };
        op::gemm::gemm(&self.pool, x.values(), x.rows, &w.matrix, &epilogue, y.values_mut());
    }
}

pub(crate) fn numbers(precision: Precision) -> op::gemm::Precision {
    match precision {
        Precision::F32 => op::gemm::Precision::F32,
        Precision::Bf16 => op::gemm::Precision::Bf16,
        Precision::Int8 => op::gemm::Precision::Int8,
    }
}

fn shape(a: &Attention) -> op::attention::AttentionShape {
    op::attention::AttentionShape {
        heads: a.heads,
        kv_heads: a.kv_heads,
        dim: a.dim,
        scale: a.scale,
        mask: match a.mask {
            Mask::Full => op::attention::Mask::Full,
            Mask::Causal => op::attention::Mask::Causal,
            Mask::Window(reach) => op::attention::Mask::Window(reach),
            Mask::CausalWindow(reach) => op::attention::Mask::CausalWindow(reach),
        },
    }
}
