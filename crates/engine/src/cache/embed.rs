//! A call of an embedder that has a cache: what is kept is taken, the rest is computed and kept.

use super::{
    Cache,
    key::{self, Key},
};
use crate::{Config, Embedder, Profile, open::Model, prompt::Told};
use embral_types::Result;
use std::collections::{HashMap, hash_map::Entry};

impl Cache {
    /// The cache that is asked for.
    pub(crate) fn of(model: &Model, config: &Config) -> Result<Option<Self>> {
        let Some(settings) = &config.vector_cache else { return Ok(None) };
        let info = model.info();
        let key = match model {
            Model::Local(_) => match &info.path {
                Some(path) => {
                    // A folder may hold several graphs, and what runs one is not of this library.
                    let graph = info.graph.as_ref().map(|graph| {
                        format!("{} {}", graph.file.strip_prefix(path).unwrap_or(&graph.file).display(), info.device)
                    });
                    key::of_config(&[&key::of_files(path)?, graph.unwrap_or_default().as_bytes()], info, config)
                }
                #[cfg(feature = "default-model")]
                None => {
                    let files = &crate::default_model::FILES;
                    key::of_config(&[files.weights, files.tokenizer], info, config)
                }
                #[cfg(not(feature = "default-model"))]
                None => return Ok(None),
            },
            #[cfg(feature = "remote")]
            Model::Remote(remote) => key::of_server(&remote.identity(), config),
        };
        Ok(Some(Self::open(settings, key)))
    }
}

impl Embedder {
    /// As [`Embedder::compute`], without the texts whose vectors are kept; keeps those of the others.
    pub(crate) fn embed_with(
        &self,
        cache: &Cache,
        texts: &[impl AsRef<str> + Sync],
        told: Told<'_>,
        out: &mut [f32],
        profile: &mut Profile,
    ) -> Result<()> {
        let dim = self.dimensions();
        let keys: Vec<Key> = texts.iter().map(|text| cache.key(told, text.as_ref())).collect();
        // Of a text that is there twice, the first is computed.
        let mut first = HashMap::new();
        let mut missing = Vec::new();
        let mut again = Vec::new();
        for ((i, row), out) in cache.get(&keys).into_iter().enumerate().zip(out.chunks_exact_mut(dim)) {
            match row.filter(|row| row.len() == dim) {
                Some(row) => out.copy_from_slice(&row),
                None => match first.entry(keys[i]) {
                    Entry::Occupied(there) => again.push((i, *there.get())),
                    Entry::Vacant(place) => {
                        place.insert(i);
                        missing.push(i);
                    }
                },
            }
        }
        profile.cached = texts.len() - missing.len() - again.len();
        let texts: Vec<&str> = missing.iter().map(|&i| texts[i].as_ref()).collect();
        let keys: Vec<Key> = missing.iter().map(|&i| keys[i]).collect();
        match &self.model {
            Model::Local(_) => {
                let mut rows = vec![0.0; missing.len() * dim];
                self.compute(&texts, told, &|i| missing[i], &mut rows, profile)?;
                cache.put(&keys, &rows, dim);
                for (&i, row) in missing.iter().zip(rows.chunks_exact(dim)) {
                    out[i * dim..][..dim].copy_from_slice(row);
                }
            }
            #[cfg(feature = "remote")]
            Model::Remote(remote) => remote.embed(&texts, told, &|i| missing[i], profile, &mut |range, rows| {
                // As they come: a later request that fails does not lose what was paid for.
                cache.put(&keys[range.clone()], rows, dim);
                for (&i, row) in missing[range].iter().zip(rows.chunks_exact(dim)) {
                    out[i * dim..][..dim].copy_from_slice(row);
                }
            })?,
        }
        for (to, from) in again {
            out.copy_within(from * dim..(from + 1) * dim, to * dim);
        }
        Ok(())
    }
}
