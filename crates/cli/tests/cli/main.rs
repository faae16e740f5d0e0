//! The `embral` binary as a user meets it: processes, files, exit codes.

mod chunks;
mod commands;
mod documents;
mod failures;
mod formats;
mod forms;
mod load;
mod models;
mod onnx;
mod process;
mod remote;
mod resume;
#[cfg(feature = "server")]
mod serve;
mod streams;
mod tasks;
mod vectors;
