//! What a queue computes with.

use embral::{
    queue::Work,
    serving::{Output, Sequence, ServedModel},
};
use embral_types::Result;
use std::sync::Arc;

/// A model behind a queue.
#[derive(Debug)]
pub(crate) struct Served(pub(crate) Arc<ServedModel>);

impl Work for Served {
    type Item = Sequence;
    type Output = Output;

    fn run(&self, items: &[&Sequence]) -> Vec<Result<Output>> {
        self.0.run(items)
    }
}
