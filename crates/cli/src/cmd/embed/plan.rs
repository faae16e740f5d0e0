//! The flags of `embral embed`, resolved: what is read, where it goes, and what cannot be asked for together.

use super::flags::{Flags, IdKind, OnError};
use crate::{
    chunks::Chunks,
    failure::usage,
    flags::ModelChoice,
    input::{self, Bad, Input},
    output::{self, Names},
};
use anyhow::Result;
use embral::quantize::Quantization;
use std::{collections::BTreeMap, fs, io::IsTerminal, path::PathBuf};

/// Where texts come from.
pub(super) enum From<'a> {
    Texts(&'a [String]),
    Input(input::Options),
}

/// Where vectors go.
pub(super) enum To {
    /// Nowhere: only the ranges are wanted.
    Nothing,
    Stdout,
    /// A pipe or a device.
    Device(PathBuf),
    File(Names),
}

/// The flags, resolved.
pub(super) struct Plan<'a> {
    pub(super) from: From<'a>,
    pub(super) to: To,
    pub(super) format: output::Format,
    pub(super) quantization: Option<Quantization>,
    pub(super) chunks: Option<Chunks>,
    pub(super) model: ModelChoice,
}

impl Flags {
    pub(super) fn plan(&self) -> Result<Plan<'_>> {
        let from = self.from()?;
        let to = self.to()?;
        let format = self.format_of(&to)?;
        if self.resume && !matches!(to, To::File(_)) {
            return Err(usage("--resume goes on with an output file: name it with -o"));
        }
        if self.with_text && matches!(format, output::Format::Npy | output::Format::Raw) {
            return Err(usage(format!(
                "--with-text: {} holds numbers alone: write JSONL, CSV or Parquet",
                format.name()
            )));
        }
        let quantization = self.output.quantization();
        if self.base64 && !matches!(format, output::Format::Jsonl | output::Format::Csv) {
            return Err(usage(format!(
                "--base64 is text, for JSONL and CSV: {} holds the bytes themselves",
                format.name()
            )));
        }
        if self.ranges.is_some() && !quantization.is_some_and(Quantization::needs_ranges) {
            return Err(usage("--ranges belongs to --output int8 or uint8"));
        }
        let chunks = self.chunks.resolve();
        if let Some(chunks) = chunks {
            chunks.ensure_fits(format)?;
            if self.profile && chunks.has_no_profile() {
                return Err(usage("--profile tells the stages of texts and chunks, not of --late and --aggregate"));
            }
        }
        Ok(Plan { from, to, format, quantization, chunks, model: self.model.resolve() })
    }

    fn from(&self) -> Result<From<'_>> {
        if self.input.is_none() && !self.texts.is_empty() {
            if self.id_field.is_some() || self.field.is_some() || self.input_format.is_some() {
                return Err(usage("--field, --id-field and --input-format are about a file: give one with -i"));
            }
            return Ok(From::Texts(&self.texts));
        }
        if self.input.is_none() && std::io::stdin().is_terminal() {
            return Err(usage("no text: give TEXT, a file with -i, or a pipe (embral embed --help shows examples)"));
        }
        let mut options = input::Options {
            path: self.input.clone().filter(|p| p.as_os_str() != "-"),
            format: self.input_format,
            field: self.field.clone(),
            id_field: self.id_field.clone(),
            bad: match self.on_error {
                OnError::Fail => Bad::Fail("mend it, or pass --on-error skip"),
                OnError::Skip => Bad::Skip,
            },
            skip_blank: self.skip_blank,
        };
        // A text that is cut is a file rather than a line.
        if self.chunks.resolve().is_some() && options.resolved_format() == input::Format::Text {
            options.format.get_or_insert(input::Format::Document);
        }
        Ok(From::Input(options))
    }

    fn to(&self) -> Result<To> {
        Ok(match self.out.as_deref() {
            None if self.save_ranges.is_some() => To::Nothing,
            None => To::Stdout,
            Some(path) if path.as_os_str() == "-" => To::Stdout,
            Some(path) if fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) => To::Device(path.to_owned()),
            Some(path) if path.is_dir() => {
                return Err(usage(format!("-o {} is a folder: name a file", path.display())));
            }
            Some(path) => To::File(Names::new(path)),
        })
    }

    fn format_of(&self, to: &To) -> Result<output::Format> {
        Ok(match (to, self.format) {
            (_, Some(format)) => format,
            (To::File(names), None) => output::Format::of(&names.out).ok_or_else(|| {
                usage(format!(
                    "{}: no format by this name: end it with .jsonl, .csv, .npy, .parquet or .raw, or pass --format",
                    names.out.display()
                ))
            })?,
            (To::Stdout, None) if std::io::stdout().is_terminal() => output::Format::Short,
            (_, None) => output::Format::Jsonl,
        })
    }

    /// What ids are in the output.
    pub(super) fn id_type(&self, input: &Input) -> Option<input::IdType> {
        match self.id_type {
            Some(IdKind::Int) => Some(input::IdType::Int64),
            Some(IdKind::String) => Some(input::IdType::Text),
            None => input.id_type(),
        }
    }

    /// What a run must share with the one that it goes on with, whatever it makes of the texts.
    pub(super) fn settings(&self, plan: &Plan<'_>) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let mut set = |flag: &str, value: String| settings.insert(flag.to_owned(), value);
        set("--truncate", plan.model.config.truncation.to_string());
        set("--with-text", self.with_text.to_string());
        set("--skip-blank", self.skip_blank.to_string());
        set("--on-error", format!("{:?}", self.on_error).to_lowercase());
        set("--field", self.field.clone().unwrap_or_default());
        set("--id-field", self.id_field.clone().unwrap_or_default());
        set("--id-type", self.id_type.map_or_else(String::new, |k| format!("{k:?}").to_lowercase()));
        let parts: Vec<String> = plan.model.config.parts.iter().map(ToString::to_string).collect();
        set("--part-precision", parts.join(" "));
        if let From::Input(options) = &plan.from {
            set("--input-format", format!("{:?}", options.resolved_format()).to_lowercase());
        }
        settings
    }
}
