//! The embral command.
fn main() {}
