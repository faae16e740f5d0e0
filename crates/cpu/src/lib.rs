//! The CPU backend: the ops of [`embral_backend::Backend`] on the kernels.
//!
//! Weights are packed into panels once, at load. Activations come from an arena of buffers that are used again, so that a
//! forward pass in the steady state allocates nothing. Activations are f32 between ops.

mod arena;
mod mixture;
mod ops;
mod packed;
mod weights;

pub use arena::Buffer;
pub use packed::{Kept, PackedWeights};
pub use weights::{Bag, Linear, Norm, Table};

use arena::Arena;
use embral_kernels::{Isa, Pool};
use embral_types::Result;
use std::sync::Arc;

/// The CPU with a pool of threads.
pub struct Cpu {
    pool: Arc<Pool>,
    arena: Arc<Arena>,
    packed: Option<PackedWeights>,
}

impl Cpu {
    /// Uses `threads` threads, the caller's among them; `None` takes one for each core the process may use.
    ///
    /// Backends of the same thread count in one process share their threads.
    pub fn new(threads: Option<usize>) -> Self {
        Self { pool: Pool::shared(threads), arena: Arc::new(Arena::default()), packed: None }
    }

    /// Takes packed weights from there, for layers of its precision.
    #[must_use]
    pub fn with_packed(self, packed: PackedWeights) -> Self {
        Self { packed: Some(packed), ..self }
    }

    /// Ends the loading of packed weights: those that were not in their file are written to it. Nothing where none were given.
    pub fn keep_packed(&mut self) -> Option<Result<Kept>> {
        self.packed.take().map(PackedWeights::keep)
    }

    /// The threads that work, the caller's among them.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        Isa::active()
    }
}

/// One packed batch: the ids, where each sequence starts, and the segments and what is seen of a sequence, where they are not 0 and all.
pub struct Plan {
    ids: Vec<u32>,
    offsets: Vec<u32>,
    segments: Vec<u8>,
    seen: Vec<u32>,
}
