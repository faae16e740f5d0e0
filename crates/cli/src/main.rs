//! The `embral` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(embral_cli::run(std::env::args_os()))
}
