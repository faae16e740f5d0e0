//! The `embral` binary as a user meets it: processes, files, exit codes.

mod commands;
mod documents;
mod failures;
mod formats;
mod process;
mod resume;
mod streams;
mod tasks;
