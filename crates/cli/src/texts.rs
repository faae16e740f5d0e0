//! Flags of commands that take a list of texts: as arguments, from a file, or from standard input.

use crate::{
    failure::usage,
    input::{self, Bad, Input, Record},
};
use anyhow::Result;
use clap::Args;
use std::{io::IsTerminal, path::PathBuf};

/// Where texts come from, as typed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Input")]
pub(crate) struct TextFlags {
    /// Read texts from a file; - is standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The format of the input [default: by the file's name, else text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    input_format: Option<input::Format>,
    /// The field or column of the text [default: text]
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// The field or column of an id to print
    #[arg(long, value_name = "NAME")]
    id_field: Option<String>,
}

impl TextFlags {
    /// The texts of the arguments, else of the file, else of standard input.
    pub(crate) fn open(&self, arguments: &[String]) -> Result<Input> {
        if !arguments.is_empty() {
            if self.input.is_some() {
                return Err(usage("texts come from the arguments or from -i, not from both"));
            }
            return Ok(Input::of_texts(arguments.to_vec()));
        }
        if self.input.is_none() && std::io::stdin().is_terminal() {
            return Err(usage("no texts: give them as arguments, in a file with -i, or through a pipe"));
        }
        Input::open(&input::Options {
            path: self.input.clone().filter(|path| path.as_os_str() != "-"),
            format: self.input_format,
            field: self.field.clone(),
            id_field: self.id_field.clone(),
            bad: Bad::Fail(""),
            skip_blank: false,
        })
    }
}

/// Texts of one call of a model.
const CHUNK: usize = 512;
/// Bytes of text of one call.
const CHUNK_BYTES: usize = 4 << 20;

/// The next texts of an input; none at its end.
pub(crate) fn chunk(input: &mut Input) -> Result<Vec<Record>> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    while records.len() < CHUNK && bytes < CHUNK_BYTES {
        let Some(record) = input.next()? else { break };
        bytes += record.text.len();
        records.push(record);
    }
    Ok(records)
}
