//! Measurements of embedding models for Embral.

pub mod kernels;
#[cfg(feature = "server-load")]
pub mod server;
pub mod texts;
