//! A model that gives each text, or each pair of texts, a row of logits.

use crate::{
    Config, Profile,
    embedder::{finite, locate},
    heads,
    open::{self, Opened, Top},
    packed::PackedCache,
    session::{Session, Texts},
};
use embral_cpu::Cpu;
use embral_forward::Head;
use embral_models::{ModelFolder, Task};
use embral_tokenize::Encoded;
use embral_types::{Batch, Error, ErrorKind, Pooling, Result};

/// A model with a head that gives logits.
pub(crate) struct Logits {
    pub(crate) opened: Opened,
    session: Session,
}

impl Logits {
    /// Opens the transformer of `folder` with the head that `head` makes; what a head has no use for in `config` is refused.
    pub(crate) fn open(
        folder: &ModelFolder,
        name: &str,
        config: &Config,
        head: impl FnOnce(&Cpu) -> Result<(Pooling, Vec<Head<Cpu>>)>,
    ) -> Result<Self> {
        config.check()?;
        refuse_vectors(config, "scores")?;
        let packed = PackedCache::of(config);
        // Logits are no vectors: they are not normalised, whatever the model is taken for.
        let raw = Config { normalize: Some(false), ..config.clone() };
        let top = |backend: &Cpu| head(backend).map(|(pooling, heads)| Top::Head(pooling, heads));
        let opened = open::with_top(folder, name, &raw, &config.precisions(), packed.as_ref(), top)?.erased();
        Ok(Self { opened, session: Session::new(config.threads, config.batch_tokens) })
    }

    /// Runs a text once, so that the first call is as fast as the tenth.
    pub(crate) fn warm_up(&self, encoded: &Encoded) -> Result<()> {
        let _busy = self.session.pool.busy();
        let mut batch = Batch::default();
        batch.push(&encoded.ids);
        self.opened.encoder.encode(&batch, 0, &mut vec![0.0; self.row_width()]).map(|_| ())
    }

    /// Logits of a row.
    pub(crate) fn row_width(&self) -> usize {
        self.opened.info.dimensions
    }

    /// The logits of `count` texts, `[count, width]`; `bytes` is the size of each and `encode` its ids.
    pub(crate) fn rows(
        &self,
        count: usize,
        bytes: &dyn Fn(usize) -> usize,
        encode: &(dyn Fn(usize) -> Result<Encoded> + Sync),
    ) -> Result<Vec<f32>> {
        let width = self.row_width();
        let mut out = vec![0.0; count * width];
        let encode = |index: usize| encode(index).and_then(|encoded| self.with_segments(encoded));
        self.session.run(&Texts { count, bytes, encode: &encode }, &mut |work| {
            let rows = &mut out[work.first * width..(work.first + work.batch.len()) * width];
            let stages = self.opened.encoder.encode(work.batch, 0, rows)?;
            finite(rows, width, |row| work.first + row).map(|()| stages)
        })?;
        Ok(out)
    }

    /// The logits of the sequences of a batch, `[batch.len(), width]`.
    pub(crate) fn run(&self, batch: &Batch) -> Result<Vec<f32>> {
        let _busy = self.session.pool.busy();
        let mut out = vec![0.0; batch.len() * self.row_width()];
        self.opened.encoder.encode(batch, 0, &mut out)?;
        Ok(out)
    }

    /// Where the time of the last finished call went.
    pub(crate) fn profile(&self) -> Profile {
        self.session.profile()
    }

    /// The ids with the segments that the model has rows for: one that has a single row, or none, knows no segments.
    pub(crate) fn with_segments(&self, mut encoded: Encoded) -> Result<Encoded> {
        let known = self.opened.token_types;
        if known < 2 {
            encoded.segments.clear();
        }
        match encoded.segments.iter().find(|&&segment| usize::from(segment) >= known) {
            None => Ok(encoded),
            Some(segment) => {
                let message = format!("the tokenizer gave token type {segment}, and the model has {known}");
                Err(Error::new(ErrorKind::Mismatch, message).hint("tokenizer and weights are of different models"))
            }
        }
    }
}

/// What the model that `config` names is for, as its folder says.
///
/// # Errors
/// Where the model is not found, or its configuration cannot be read.
pub fn task(config: &Config) -> Result<Task> {
    match config.named() {
        None => Ok(Task::Embedding),
        Some(_) if config.is_remote() => Ok(Task::Embedding),
        Some(name) => Ok(ModelFolder::read_with(&locate(name, config)?, &config.onnx)?.task),
    }
}

/// The folder of the model that `config` names, and its name.
pub(crate) fn folder(config: &Config, wanted: &str) -> Result<(ModelFolder, String)> {
    let Some(name) = config.named() else {
        let message = format!("expected the name of {wanted}: the model inside the library is an embedding model");
        return Err(
            Error::new(ErrorKind::InvalidInput, message).hint("name one, such as cross-encoder/ms-marco-MiniLM-L6-v2")
        );
    };
    if config.vector_cache.is_some() {
        let message = format!("vector_cache keeps vectors of embedding models, and {wanted} was asked for");
        return Err(Error::new(ErrorKind::InvalidInput, message).hint("leave it out"));
    }
    let path = locate(name, config)?;
    Ok((ModelFolder::read_with(&path, &config.onnx)?, name.to_owned()))
}

/// Refuses what is about the vector of a text in a configuration of a model that gives something else.
pub(crate) fn refuse_vectors(config: &Config, given: &str) -> Result<()> {
    let set = [
        ("dims", config.dims.is_some()),
        ("pooling", config.pooling.is_some()),
        ("normalize", config.normalize.is_some()),
    ];
    match set.iter().find(|(_, set)| *set) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("{name} is about the vector of a text, and this model gives {given}");
            Err(Error::new(ErrorKind::InvalidInput, message).hint("leave it out"))
        }
    }
}

/// Heads out of the weights of a folder.
pub(crate) fn classifier(
    backend: &Cpu,
    folder: &ModelFolder,
    spec: &embral_models::ClassifierSpec,
) -> Result<(Pooling, Vec<Head<Cpu>>)> {
    let weights = folder.open_weights()?;
    Ok((spec.pooling, heads::classifier(backend, &*weights, spec)?))
}
