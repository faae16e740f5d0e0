//! Oracles, tolerances and golden files for Embral's tests.

pub mod oracle;
