//! `embral embed --sparse` and `--multi-vector`: texts in, weights of vocabulary entries and vectors of tokens out, as JSON lines.

use super::{
    flags::Flags,
    run::{self, Run},
};
use crate::{
    failure::usage,
    flags::{Chosen, ModelChoice},
    output::{Format, Journal, Layout, Number, Vectors},
};
use anyhow::Result;
use embral::{
    Embeddings, Joint, JointEmbedder, ModelInfo, MultiVectorEmbedder, Profile, Prompt, SparseEmbedder, SparseEmbedding,
};
use std::io::Write as _;

/// A model with the outputs that are wanted.
enum Model {
    Sparse(SparseEmbedder),
    /// Whether texts are queries.
    MultiVector(MultiVectorEmbedder, bool),
    Joint(JointEmbedder),
}

/// The outputs of some texts, each empty where it is not wanted.
#[derive(Default)]
struct Outputs {
    dense: Embeddings,
    sparse: Vec<SparseEmbedding>,
    multi_vector: Vec<Embeddings>,
}

pub(super) fn run(flags: &Flags) -> Result<()> {
    let mut plan = flags.plan()?;
    if plan.format == Format::Short && flags.format.is_none() {
        plan.format = Format::Jsonl;
    }
    if plan.format != Format::Jsonl {
        return Err(usage(format!(
            "--sparse and --multi-vector have no fixed width and are written as JSON lines, not as {}: end the name with .jsonl, or pass \
             --format jsonl",
            plan.format.name()
        )));
    }
    if plan.quantization.is_some() || flags.save_ranges.is_some() {
        return Err(usage(
            "--output and --save-ranges are for one vector a text: leave them out with --sparse and --multi-vector",
        ));
    }
    if flags.base64 {
        return Err(usage("--base64 is for one vector a text: leave it out with --sparse and --multi-vector"));
    }
    if plan.chunks.is_some() {
        return Err(usage(
            "--chunk gives vectors of chunks, and --sparse and --multi-vector take whole texts: pass the chunks as texts of their own",
        ));
    }
    let Some(run) = Run::open(flags, &plan)? else { return Ok(()) };
    let model = open(flags, &plan.model)?;
    let layout = Layout {
        width: 0,
        number: Number::F32,
        ids: flags.id_field.is_some(),
        id_type: flags.id_type(&run.input),
        text: flags.with_text,
        chunks: false,
        base64: false,
    };
    let prompt = plan.model.prompt();
    let journal = || {
        let mut settings = flags.settings(&plan);
        for (flag, value) in [
            ("--dense", flags.dense.to_string()),
            ("--sparse", flags.sparse.to_string()),
            ("--multi-vector", flags.multi_vector.to_string()),
            ("--prompt", format!("{:?}", plan.model.prompt)),
            ("--precision", model.info().precision.to_string()),
            ("--max-tokens", model.info().max_tokens.to_string()),
        ] {
            settings.insert(flag.to_owned(), value);
        }
        Ok(Journal::new(settings, run::probe(|text| model.numbers(text, prompt))?))
    };
    let mut profile = Profile::default();
    let leftovers = run.run(flags, &plan, layout, 1, journal, |records| {
        let texts: Vec<&str> = records.iter().map(|r| r.text.as_str()).collect();
        let (outputs, call) = model.embed(&texts, prompt)?;
        profile.add(&call);
        Ok((Vectors::Members(outputs.members(texts.len())?), call.tokens))
    })?;
    run::report(&leftovers, flags);
    if flags.profile {
        eprintln!("{profile}");
    }
    Ok(())
}

/// Opens the model for the outputs that the flags name.
fn open(flags: &Flags, choice: &ModelChoice) -> Result<Model> {
    choice.fetch_other()?;
    let config = choice.config.clone();
    let model = match (flags.dense, flags.sparse, flags.multi_vector) {
        (false, true, false) => Model::Sparse(SparseEmbedder::with_config(config)?),
        (false, false, true) => {
            let query = match &choice.prompt {
                None => false,
                Some(Chosen::Name(name)) if name == "query" => true,
                Some(Chosen::Name(name)) if name == "document" => false,
                Some(_) => {
                    return Err(usage(
                        "a multi-vector model reads queries and documents, and knows how: pass --prompt query, or nothing for documents",
                    ));
                }
            };
            Model::MultiVector(MultiVectorEmbedder::with_config(config)?, query)
        }
        (dense, sparse, multi_vector) => {
            if choice.prompt.is_some() {
                return Err(usage("--prompt and --prompt-text are not for several outputs at once: leave them out"));
            }
            Model::Joint(JointEmbedder::with_config(config, Joint { dense, sparse, multi_vector })?)
        }
    };
    choice.say_rounding(flags.quiet);
    if let Model::Sparse(embedder) = &model {
        embedder.info().prompt_text(choice.prompt())?;
        crate::flags::remind(embedder.info(), choice.prompt(), flags.quiet);
    }
    Ok(model)
}

impl Model {
    fn info(&self) -> &ModelInfo {
        match self {
            Self::Sparse(embedder) => embedder.info(),
            Self::MultiVector(embedder, _) => embedder.info(),
            Self::Joint(embedder) => embedder.info(),
        }
    }

    fn embed(&self, texts: &[&str], prompt: Prompt<'_>) -> Result<(Outputs, Profile)> {
        Ok(match self {
            Self::Sparse(embedder) => {
                let sparse = embedder.embed_batch_as(texts, prompt)?;
                (Outputs { sparse, ..Outputs::default() }, embedder.profile())
            }
            Self::MultiVector(embedder, query) => {
                let multi_vector =
                    if *query { embedder.embed_query(texts)? } else { embedder.embed_document(texts)? };
                (Outputs { multi_vector, ..Outputs::default() }, embedder.profile())
            }
            Self::Joint(embedder) => {
                let all = embedder.embed_batch(texts)?;
                (Outputs { dense: all.dense, sparse: all.sparse, multi_vector: all.multi_vector }, embedder.profile())
            }
        })
    }

    /// All that it makes of a text.
    fn numbers(&self, text: &str, prompt: Prompt<'_>) -> Result<Vec<f32>> {
        let (outputs, _) = self.embed(&[text], prompt)?;
        let mut numbers = outputs.dense.into_vec();
        numbers.extend(outputs.sparse.into_iter().flat_map(|row| row.weights));
        numbers.extend(outputs.multi_vector.into_iter().flat_map(Embeddings::into_vec));
        Ok(numbers)
    }
}

impl Outputs {
    /// The members of each text's JSON object.
    fn members(&self, count: usize) -> Result<Vec<String>> {
        let member = |text: usize| -> Result<String> {
            let mut out = Vec::new();
            if let Some(row) = self.dense.get(text) {
                out.extend_from_slice(b",\"embedding\":");
                serde_json::to_writer(&mut out, row)?;
            }
            if let Some(SparseEmbedding { ids, weights }) = self.sparse.get(text) {
                out.extend_from_slice(b",\"sparse\":{\"indices\":");
                serde_json::to_writer(&mut out, ids)?;
                out.extend_from_slice(b",\"values\":");
                serde_json::to_writer(&mut out, weights)?;
                out.extend_from_slice(b"}");
            }
            if let Some(rows) = self.multi_vector.get(text) {
                out.extend_from_slice(b",\"multi_vector\":");
                serde_json::to_writer(&mut out, &rows.rows().collect::<Vec<_>>())?;
            }
            out.flush()?;
            Ok(String::from_utf8(out)?)
        };
        (0..count).map(member).collect()
    }
}
