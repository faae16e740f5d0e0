//! Oracles, tolerances and golden files for Embral's tests.

pub mod golden;
pub mod oracle;
pub mod tasks;
