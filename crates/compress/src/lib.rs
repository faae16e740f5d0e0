//! Compression and distillation of embedding models for Embral.
