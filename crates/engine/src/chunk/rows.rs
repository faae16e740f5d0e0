//! The rows of tokens out of a pass, and any runs of rows into vectors.

use crate::encoder::{Body, Native};
use embral_backend::{Backend, Pool};
use embral_types::{Batch, Error, ErrorKind, Pooling, Result};

impl<B: Backend> Native<B> {
    /// Fails where the rows of a chunk are not what the model's vectors are pooled from.
    pub(crate) fn poolable(&self) -> Result<()> {
        let pooling = match &self.body {
            Body::Transformer { pooling, .. } => pooling,
            #[cfg(feature = "onnx")]
            Body::Graph(graph) => graph.pooling()?,
            Body::Static(_) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "late chunking needs a transformer: in a static model a token knows nothing of its neighbours",
                )
                .hint("leave late chunking out, or name a transformer"));
            }
        };
        match pooling {
            Pooling::Mean | Pooling::Max => Ok(()),
            Pooling::Cls | Pooling::Last => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "late chunking pools the rows of each chunk, by mean or max; the model takes one row ({pooling})"
                ),
            )
            .hint("the mean of the rows is --pooling mean, for which the model was not trained")),
        }
    }

    /// The row of every token of `batch`, `[batch.tokens(), hidden]`, into `out`; of a static model, which has none, zeros.
    pub(crate) fn token_rows(&self, batch: &Batch, out: &mut Vec<f32>) -> Result<()> {
        self.check_ids(batch)?;
        out.clear();
        out.resize(batch.tokens() * self.body.width(), 0.0);
        let rows = match &self.body {
            Body::Transformer { model, .. } => {
                let plan = self.backend.plan(batch)?;
                model.rows(&self.backend, &plan, batch, &mut |_, _| Ok(()))?
            }
            #[cfg(feature = "onnx")]
            Body::Graph(graph) => return graph.token_rows(batch, out),
            Body::Static(_) => return Ok(()),
        };
        self.backend.read(&rows, out)
    }

    /// One vector for each run of `rows`, `[Σ lengths, hidden]`, by the pooling and the heads of the model, into `out`,
    /// `[lengths.len(), dimensions]`. A run without a row gives zeros before the heads.
    pub(crate) fn pool_runs(&self, rows: &[f32], lengths: &[usize], out: &mut [f32]) -> Result<()> {
        self.poolable()?;
        let pooling = match &self.body {
            Body::Transformer { pooling, .. } => *pooling,
            #[cfg(feature = "onnx")]
            Body::Graph(graph) => *graph.pooling()?,
            Body::Static(_) => return Ok(()),
        };
        let width = self.body.width();
        let mut runs = Batch::default();
        lengths.iter().for_each(|&length| runs.push(&vec![0; length]));
        let plan = self.backend.plan(&runs)?;
        let mut buffer = self.backend.buffer(runs.tokens(), width)?;
        self.backend.write(rows, &mut buffer)?;
        let pool = Pool { how: pooling, skip: 0, l2: self.form.l2 && self.pooled_is_last(self.form) };
        let mut pooled = self.backend.buffer(runs.len(), width)?;
        self.backend.pool(&plan, &buffer, pool, &mut pooled)?;
        self.finish(pooled, runs.len(), self.form, out)
    }
}
