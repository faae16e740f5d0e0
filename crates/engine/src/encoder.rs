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

    /// As [`Encoder::encode`], in another form than that of the model.
    fn encode_as(&self, batch: &Batch, skip: usize, form: Form, out: &mut [f32]) -> Result<Stages>;

    /// Fails where the model has no rows of tokens that runs of them could be pooled from.
    fn late(&self) -> Result<()>;

    /// Whether there are rows of tokens before the pooling.
    fn has_rows(&self) -> bool;

    /// The row of every token, `[batch.tokens(), width]`, into `out`.
    fn token_rows(&self, batch: &Batch, out: &mut Vec<f32>) -> Result<()>;

    /// One vector for each run of rows, `[Σ lengths, width]`, into `out`, `[lengths.len(), dimensions]`.
    fn pool_runs(&self, rows: &[f32], lengths: &[usize], out: &mut [f32]) -> Result<()>;
}

/// The time of one batch by stage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stages {
    pub(crate) inference: Duration,
    pub(crate) pool: Duration,
    pub(crate) finish: Duration,
}

/// How vectors come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// The width kept; at most the width of the last layer.
    pub(crate) dims: usize,
    /// Whether they are normalised last.
    pub(crate) l2: bool,
}

/// A model on a backend.
pub(crate) struct Native<B: Backend> {
    pub(crate) backend: B,
    pub(crate) body: Body<B>,
    pub(crate) heads: Vec<Head<B>>,
    /// What comes before a cut, of a model that was trained with it.
    pub(crate) before_cut: Option<Head<B>>,
    /// The form of the vectors where no other is asked for.
    pub(crate) form: Form,
}

pub(crate) enum Body<B: Backend> {
    Transformer {
        model: Box<Transformer<B>>,
        pooling: Pooling,
    },
    Static(StaticTable<B>),
    #[cfg(feature = "onnx")]
    Graph(Box<crate::onnx::GraphBody>),
}

impl<B: Backend> Body<B> {
    /// The ids that have a row: those below it.
    fn ids(&self) -> usize {
        match self {
            Self::Transformer { model, .. } => model.ids(),
            Self::Static(table) => table.ids(),
            // The graph refuses by itself what it has no row for.
            #[cfg(feature = "onnx")]
            Self::Graph(_) => usize::MAX,
        }
    }

    /// The width of a pooled row.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Transformer { model, .. } => model.hidden(),
            Self::Static(table) => table.width(),
            #[cfg(feature = "onnx")]
            Self::Graph(graph) => graph.width(),
        }
    }
}

/// What sees the rows behind each block.
pub(crate) type Observe<'a, B> = &'a mut dyn FnMut(usize, &<B as Backend>::Buffer) -> Result<()>;

impl<B: Backend> Native<B> {
    fn pooled(
        &self,
        batch: &Batch,
        skip: usize,
        l2: bool,
        stages: &mut Stages,
        observe: Observe<'_, B>,
    ) -> Result<B::Buffer> {
        let plan = self.backend.plan(batch)?;
        let start = Instant::now();
        match &self.body {
            Body::Transformer { model, pooling } => {
                let rows = model.rows(&self.backend, &plan, batch, observe)?;
                stages.inference = start.elapsed();
                let start = Instant::now();
                let pooled = model.pool(&self.backend, &plan, &rows, batch, pool_of(*pooling, skip, l2))?;
                stages.pool = start.elapsed();
                Ok(pooled)
            }
            Body::Static(table) => {
                let pooled = table.pool(&self.backend, &plan, batch, l2)?;
                stages.inference = start.elapsed();
                Ok(pooled)
            }
            #[cfg(feature = "onnx")]
            Body::Graph(graph) => {
                let rows = graph.rows(&self.backend, batch, skip)?;
                stages.inference = start.elapsed();
                let start = Instant::now();
                let pooled = graph.pool(&self.backend, &plan, rows, batch.len(), (skip, l2))?;
                stages.pool = start.elapsed();
                Ok(pooled)
            }
        }
    }

    /// As [`Encoder::encode`]; `observe` sees the rows behind each block of a transformer.
    pub(crate) fn encode_observed(
        &self,
        batch: &Batch,
        skip: usize,
        out: &mut [f32],
        observe: Observe<'_, B>,
    ) -> Result<Stages> {
        self.encode_in(batch, skip, self.form, out, observe)
    }

    fn encode_in(
        &self,
        batch: &Batch,
        skip: usize,
        form: Form,
        out: &mut [f32],
        observe: Observe<'_, B>,
    ) -> Result<Stages> {
        self.check_ids(batch)?;
        let mut stages = Stages::default();
        let rows = self.pooled(batch, skip, form.l2 && self.pooled_is_last(form), &mut stages, observe)?;
        let start = Instant::now();
        self.finish(rows, batch.len(), form, out)?;
        stages.finish = start.elapsed();
        Ok(stages)
    }

    /// The vectors of token rows that are there already, into `out`, `[batch.len(), form.dims]`; those that [`Encoder::encode_as`] gives.
    pub(crate) fn vectors_of(
        &self,
        (model, pooling): (&Transformer<B>, Pooling),
        plan: &B::Plan,
        rows: &B::Buffer,
        (batch, skip): (&Batch, usize),
        form: Form,
        out: &mut [f32],
    ) -> Result<()> {
        let pool = pool_of(pooling, skip, form.l2 && self.pooled_is_last(form));
        let pooled = model.pool(&self.backend, plan, rows, batch, pool)?;
        self.finish(pooled, batch.len(), form, out)
    }

    /// Fails where a token has no row in the model's table.
    pub(crate) fn check_ids(&self, batch: &Batch) -> Result<()> {
        let rows = self.body.ids();
        match batch.ids().iter().find(|&&id| id as usize >= rows) {
            None => Ok(()),
            Some(id) => {
                let message = format!("the tokenizer gave token {id}, and the model's table has {rows} rows");
                Err(Error::new(ErrorKind::Mismatch, message).hint("tokenizer and weights are of different models"))
            }
        }
    }

    /// Whether nothing comes behind the pooling, so that it normalises at once.
    pub(crate) fn pooled_is_last(&self, form: Form) -> bool {
        self.heads.is_empty() && self.body.width() == form.dims
    }

    /// The width behind the heads.
    pub(crate) fn width(&self) -> usize {
        self.heads.iter().fold(self.body.width(), |width, head| head.width(width))
    }

    /// The pooled rows of `count` sequences through the heads, cut and normalised, into `out`.
    pub(crate) fn finish(&self, mut rows: B::Buffer, count: usize, form: Form, out: &mut [f32]) -> Result<()> {
        if !self.pooled_is_last(form) {
            let before_cut = self.before_cut.as_ref().filter(|_| form.dims < self.width());
            let mut width = self.body.width();
            for head in self.heads.iter().chain(before_cut) {
                rows = head.apply(&self.backend, rows, count, width)?;
                width = head.width(width);
            }
            if form.l2 || width != form.dims {
                let mut cut = self.backend.buffer(count, form.dims)?;
                self.backend.finish(&rows, form.l2, &mut cut)?;
                rows = cut;
            }
        }
        self.backend.read(&rows, out)
    }
}

/// How rows are pooled. The first and the last row stay what they are, as sentence-transformers has it.
pub(crate) fn pool_of(how: Pooling, skip: usize, l2: bool) -> Pool {
    Pool { how, skip: if matches!(how, Pooling::Mean | Pooling::Max) { skip } else { 0 }, l2 }
}

impl<B: Backend> Encoder for Native<B> {
    fn encode(&self, batch: &Batch, skip: usize, out: &mut [f32]) -> Result<Stages> {
        self.encode_observed(batch, skip, out, &mut |_, _| Ok(()))
    }

    fn encode_as(&self, batch: &Batch, skip: usize, form: Form, out: &mut [f32]) -> Result<Stages> {
        self.encode_in(batch, skip, form, out, &mut |_, _| Ok(()))
    }

    fn late(&self) -> Result<()> {
        self.poolable()
    }

    fn has_rows(&self) -> bool {
        match &self.body {
            Body::Transformer { .. } => true,
            Body::Static(_) => false,
            #[cfg(feature = "onnx")]
            Body::Graph(graph) => graph.pooling().is_ok(),
        }
    }

    fn token_rows(&self, batch: &Batch, out: &mut Vec<f32>) -> Result<()> {
        Self::token_rows(self, batch, out)
    }

    fn pool_runs(&self, rows: &[f32], lengths: &[usize], out: &mut [f32]) -> Result<()> {
        Self::pool_runs(self, rows, lengths, out)
    }
}
