//! A whole model behind one object-safe face: packed batch in, one row a sequence out.

use embral_backend::{Backend, Pool};
use embral_forward::{Head, StaticTable, Transformer};
use embral_types::{Batch, Error, ErrorKind, Pooling, Result};
use std::time::{Duration, Instant};

/// What `engine` asks of a model, whatever computes it.
pub(crate) trait Encoder: Send + Sync {
    /// One vector a sequence into `out`, `[batch.len(), dimensions]`. The first `skip` tokens of each sequence are read, and left
    /// out of a pooling over all rows.
    fn encode(&self, batch: &Batch, skip: usize, out: &mut [f32]) -> Result<Stages>;
}

/// The time of one batch by stage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stages {
    pub(crate) inference: Duration,
    pub(crate) pool: Duration,
    pub(crate) finish: Duration,
}

/// A model on a backend.
pub(crate) struct Native<B: Backend> {
    pub(crate) backend: B,
    pub(crate) body: Body<B>,
    pub(crate) heads: Vec<Head<B>>,
    /// The width kept; at most the width of the last layer.
    pub(crate) dims: usize,
    /// Whether the vectors are normalised last.
    pub(crate) l2: bool,
}

pub(crate) enum Body<B: Backend> {
    Transformer { model: Box<Transformer<B>>, pooling: Pooling },
    Static(StaticTable<B>),
}

impl<B: Backend> Body<B> {
    /// The ids that have a row: those below it.
    fn ids(&self) -> usize {
        match self {
            Self::Transformer { model, .. } => model.ids(),
            Self::Static(table) => table.ids(),
        }
    }

    /// The width of a pooled row.
    fn width(&self) -> usize {
        match self {
            Self::Transformer { model, .. } => model.hidden(),
            Self::Static(table) => table.width(),
        }
    }
}

impl<B: Backend> Native<B> {
    fn pooled(&self, batch: &Batch, skip: usize, l2: bool, stages: &mut Stages) -> Result<B::Buffer> {
        let plan = self.backend.plan(batch)?;
        let start = Instant::now();
        match &self.body {
            Body::Transformer { model, pooling } => {
                let rows = model.rows(&self.backend, &plan, batch)?;
                stages.inference = start.elapsed();
                let start = Instant::now();
                // The first and the last row stay what they are, as sentence-transformers has it.
                let skip = if matches!(pooling, Pooling::Mean | Pooling::Max) { skip } else { 0 };
                let pool = Pool { how: *pooling, skip, l2 };
                let pooled = model.pool(&self.backend, &plan, &rows, batch, pool)?;
                stages.pool = start.elapsed();
                Ok(pooled)
            }
            Body::Static(table) => {
                let pooled = table.pool(&self.backend, &plan, batch, l2)?;
                stages.inference = start.elapsed();
                Ok(pooled)
            }
        }
    }
}

impl<B: Backend> Encoder for Native<B> {
    fn encode(&self, batch: &Batch, skip: usize, out: &mut [f32]) -> Result<Stages> {
        let rows = self.body.ids();
        if let Some(id) = batch.ids().iter().find(|&&id| id as usize >= rows) {
            let message = format!("the tokenizer gave token {id}, and the model's table has {rows} rows");
            return Err(Error::new(ErrorKind::Mismatch, message).hint("tokenizer and weights are of different models"));
        }
        let mut stages = Stages::default();
        let mut width = self.body.width();
        let pooled_is_last = self.heads.is_empty() && width == self.dims;
        let mut rows = self.pooled(batch, skip, self.l2 && pooled_is_last, &mut stages)?;
        let start = Instant::now();
        if !pooled_is_last {
            for head in &self.heads {
                rows = head.apply(&self.backend, rows, batch.len(), width)?;
                width = head.width(width);
            }
            if self.l2 || width != self.dims {
                let mut cut = self.backend.buffer(batch.len(), self.dims)?;
                self.backend.finish(&rows, self.l2, &mut cut)?;
                rows = cut;
            }
        }
        self.backend.read(&rows, out)?;
        stages.finish = start.elapsed();
        Ok(stages)
    }
}
