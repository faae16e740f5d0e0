//! Measurements of embedding models for Embral.

pub mod kernels;
pub mod texts;
