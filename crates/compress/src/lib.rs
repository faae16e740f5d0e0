//! Making small models out of large ones, and measuring what they are worth.

pub mod evaluate;
mod progress;
mod random;
mod share;
pub mod static_distill;

pub use progress::Progress;
