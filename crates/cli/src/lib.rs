//! The `embral` command as a library, so that other fronts (a Python wheel) start the same one.

mod chain;
mod chunks;
mod cmd;
mod download;
mod failure;
mod flags;
mod input;
mod listing;
mod output;
mod pipeline;
mod progress;
mod ranges;
mod texts;
mod vectors;

use clap::{CommandFactory, Parser};
#[doc(hidden)]
pub use input::count as count_texts;
use std::ffi::OsString;

/// Turns text into vectors.
#[derive(Parser, Debug)]
#[command(name = "embral", version, max_term_width = 100)]
#[command(about = "Turns text into vectors, as sentence-transformers does, without Python")]
#[command(after_help = "Examples:
  embral embed \"a cat sat on the mat\" \"ein Hund\"
  embral embed -i texts.txt -o vectors.npy
  embral search notes.txt \"how do I reset my password\"
  embral doctor")]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: cmd::Command,
}

/// Runs a command line, the program's name first; the exit code: 0, 1 where it failed, 2 where the command line is wrong,
/// 130 where a signal stopped it.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    embral_types::silence_guarded();
    let outcome = match Cli::try_parse_from(args) {
        Ok(cli) => cmd::run(cli.command),
        Err(error) if error.use_stderr() => Err(in_one_line(&error)),
        // Help and version go to standard output and are no failure.
        Err(error) => error.print().map_err(Into::into),
    };
    let Err(error) = outcome else { return 0 };
    let (code, line) = failure::verdict(&error);
    if let Some(line) = line {
        eprintln!("embral: error: {line}");
    }
    code
}

/// The definition of the whole command line: what help, completions and the manual are made of.
pub fn command() -> clap::Command {
    Cli::command()
}

/// What clap found wrong, without its paragraphs.
fn in_one_line(error: &clap::Error) -> anyhow::Error {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return failure::usage("no command: try embral --help");
    }
    let text = error.render().to_string();
    let what = text.split("Usage:").next().unwrap_or(&text).replace("For more information, try '--help'.", "");
    let words: Vec<&str> = what.split_whitespace().collect();
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line).replace(" tip: ", ": ");
    failure::usage(format!("{line} (--help tells more)"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_consistent() {
        super::command().debug_assert();
    }
}
