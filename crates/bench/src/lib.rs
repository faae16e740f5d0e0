//! Measurements of embedding models for Embral.
