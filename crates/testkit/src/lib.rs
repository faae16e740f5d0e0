//! Oracles, tolerances, golden files and a scripted server for Embral's tests.

pub mod golden;
pub mod oracle;
pub mod server;
pub mod tasks;
