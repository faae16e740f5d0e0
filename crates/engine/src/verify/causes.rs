//! Why a vector differs: what is usually wrong is tried, one thing at a time, and what gives the expected vector is said.

use super::{Difference, Set, Tolerance, cosine, is_near, length};
use crate::{Config, Embedder, Prompt};
use embral_types::{Pooling, Result};
use std::collections::BTreeSet;

/// Weights up to this size are opened once more for each pooling and limit that is tried.
const CHEAP_BYTES: usize = 2 << 30;

/// Limits that models are cut at, besides that of their positions.
const LIMITS: [usize; 6] = [64, 128, 256, 384, 512, 8192];

/// What explains the worst difference, likeliest first.
pub(super) fn of(
    config: &Config,
    embedder: &Embedder,
    set: &Set,
    worst: &Difference,
    tolerance: &Tolerance,
) -> Result<Vec<String>> {
    let expected = &set.embeddings[worst.index][..];
    let info = embedder.info();
    let found = embedder.embed_batch_as(&[&worst.text], set.prompt())?.into_vec();
    let mut causes = Vec::new();
    let stated = embedder.prompt_text(set.prompt())?;
    if let Some(text) = set.prompt_text.as_deref().filter(|text| *text != stated) {
        causes.push(format!("prompt: the reference put {text:?} before the text, and this model puts {stated:?}"));
    }
    let texts = [format!("{stated}{}", worst.text)];
    let tokens = if config.is_remote() { None } else { embedder.tokenize(&texts[0]).ok() };
    if let (Some(ids), Some(tokens)) = (&set.ids, &tokens) {
        let ids = &ids[worst.index];
        if let Some(at) = (0..ids.len().max(tokens.len())).find(|&i| ids.get(i) != tokens.get(i)) {
            let id = |id: Option<&u32>| id.map_or_else(|| "none".to_owned(), u32::to_string);
            causes.push(format!(
                "tokens: {} in the reference and {} here, the first that differs is number {at}: expected {}, found {}",
                ids.len(),
                tokens.len(),
                id(ids.get(at)),
                id(tokens.get(at))
            ));
        }
    }
    let lengths = (length(expected), length(&found));
    if cosine(&found, expected) >= tolerance.cosine && (lengths.0 / lengths.1 - 1.0).abs() > 1e-3 {
        causes.push(format!(
            "normalise: the same direction, of length {:.4} in the reference and {:.4} here",
            lengths.0, lengths.1
        ));
    }
    // What is tried is compared by direction: whether vectors are normalised was looked at.
    let scaled: Vec<f32> = expected.iter().map(|x| (f64::from(*x) / lengths.0.max(f64::MIN_POSITIVE)) as f32).collect();
    let fits = |row: &[f32]| {
        let norm = length(row).max(f64::MIN_POSITIVE);
        let row: Vec<f32> = row.iter().map(|x| (f64::from(*x) / norm) as f32).collect();
        is_near(&row, &scaled, tolerance)
    };
    let names = info.prompt_names();
    let prompts = [Prompt::None].into_iter().chain(names.iter().map(|name| Prompt::Name(name)));
    for prompt in prompts.filter(|prompt| embedder.prompt_text(*prompt).is_ok_and(|text| text != stated)) {
        if fits(embedder.embed_batch_as(&[&worst.text], prompt)?.row(0)) {
            let with = match prompt {
                Prompt::Name(name) => format!("with the prompt {name:?}"),
                _ => "without a prompt".to_owned(),
            };
            causes.push(format!("prompt: {with} the vector is the expected one"));
        }
    }
    let lower = worst.text.to_lowercase();
    if lower != worst.text && fits(embedder.embed_batch_as(&[&lower], set.prompt())?.row(0)) {
        causes.push("case: of the text in lower case the vector is the expected one".to_owned());
    }
    if config.is_remote() || info.layers == 0 || info.weight_bytes > CHEAP_BYTES {
        return Ok(causes);
    }
    let with = |change: Config| -> Result<bool> {
        let change = Config { warm_up: false, vector_cache: None, ..change };
        // What cannot be opened so explains nothing.
        let Ok(other) = Embedder::with_config(change) else { return Ok(false) };
        Ok(fits(other.embed_batch_as(&[&worst.text], set.prompt())?.row(0)))
    };
    for pooling in Pooling::ALL.into_iter().filter(|pooling| *pooling != info.pooling) {
        if with(Config { pooling: Some(pooling), ..config.clone() })? {
            causes.push(format!(
                "pooling: with {pooling} in the place of {} the vector is the expected one",
                info.pooling
            ));
        }
    }
    let count = tokens.map_or(0, |tokens| tokens.len());
    let stated = set.ids.as_ref().map(|ids| ids[worst.index].len());
    let limits: BTreeSet<usize> = LIMITS.into_iter().chain(stated).collect();
    for limit in limits.into_iter().filter(|&limit| limit < count || count == info.max_tokens && limit > count) {
        if with(Config { max_tokens: Some(limit), ..config.clone() })? {
            causes.push(format!(
                "truncation: cut at {limit} tokens, and not at {}, the vector is the expected one",
                info.max_tokens
            ));
        }
    }
    Ok(causes)
}
