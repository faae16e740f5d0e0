//! Measurements of embedding models for Embral.

pub mod texts;
