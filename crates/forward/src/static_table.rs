//! Static models: the mean of a table's rows.

use embral_backend::Backend;
use embral_types::{Batch, Result, Tensor};

/// A table on a backend.
pub struct StaticTable<B: Backend> {
    bag: B::Bag,
    width: usize,
    ids: usize,
}

impl<B: Backend> StaticTable<B> {
    /// Takes `table[rows, width]`, a factor for each id, and the row of each id, where the model has them.
    ///
    /// # Errors
    /// Where the shapes disagree or the mapping names a row that is not there.
    pub fn load(
        backend: &B,
        table: &Tensor<'_>,
        weights: Option<&Tensor<'_>>,
        mapping: Option<&Tensor<'_>>,
    ) -> Result<Self> {
        let bag = backend.load_bag(table, weights, mapping)?;
        let ids = mapping.map_or(table.shape()[0], Tensor::len);
        Ok(Self { bag, width: table.shape()[1], ids })
    }

    /// The ids that have a row: those below it.
    pub fn ids(&self) -> usize {
        self.ids
    }

    /// The width of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row a sequence, `[batch.len(), width]`; zeros for an empty sequence.
    pub fn pool(&self, backend: &B, plan: &B::Plan, batch: &Batch, l2: bool) -> Result<B::Buffer> {
        let mut y = backend.buffer(batch.len(), self.width)?;
        backend.bag(plan, &self.bag, l2, &mut y)?;
        Ok(y)
    }
}
