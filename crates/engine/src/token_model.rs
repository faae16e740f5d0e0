//! A model whose token rows are wanted: weights of vocabulary entries, one vector a token, and the vector of the text, of one pass.

use crate::{
    Config, ModelInfo, Profile, SparseEmbedding,
    embedder::finite,
    encoder::{Body, Form, Native, Stages},
    heads,
    open::{self, Top},
    packed::PackedCache,
    session::{Session, Texts, Work, push, warm_up_text},
    sparse::{PooledTerms, largest_weights},
};
use embral_backend::Backend;
use embral_cpu::Cpu;
use embral_forward::{Head, Terms};
use embral_models::{ModelFolder, MultiVectorSpec, SparseSpec, TermPooling};
use embral_tokenize::Tokenizer;
use embral_types::{Batch, Error, ErrorKind, Result};
use std::time::Instant;

/// What is wanted of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// The vector of the text, in this form.
    pub(crate) dense: Option<Form>,
    pub(crate) sparse: bool,
    pub(crate) tokens: bool,
}

/// What a pass gave for the texts of a batch.
#[derive(Default)]
pub(crate) struct Found {
    /// `[texts, dimensions]`.
    pub(crate) dense: Vec<f32>,
    pub(crate) sparse: Vec<SparseEmbedding>,
    /// `[tokens, width]`.
    pub(crate) tokens: Vec<f32>,
}

/// What the public types ask of a model, whatever computes it.
trait TokenEncoder: Send + Sync {
    fn pass(&self, batch: &Batch, skip: usize, wanted: Wanted) -> Result<(Found, Stages)>;
}

/// Heads over the token rows of a transformer.
struct Tokens<B: Backend> {
    native: Native<B>,
    sparse: Option<Sparse<B>>,
    vectors: Vec<Head<B>>,
}

enum Sparse<B: Backend> {
    Terms {
        head: Terms<B>,
        pooling: TermPooling,
        twice: bool,
    },
    /// One weight a token, and the tokens that have none.
    Weight {
        head: Head<B>,
        without: Vec<u32>,
    },
}

/// A transformer with heads over its token rows.
pub(crate) struct TokenModel {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) info: ModelInfo,
    pub(crate) include_prompt: bool,
    encoder: Box<dyn TokenEncoder>,
    session: Session,
    /// Components of a token's vector.
    width: usize,
}

impl TokenModel {
    /// Opens the transformer of a folder with the heads of `sparse` and of `vectors`, where they are wanted.
    pub(crate) fn open(
        folder: &ModelFolder,
        name: &str,
        config: &Config,
        sparse: Option<&SparseSpec>,
        vectors: Option<&MultiVectorSpec>,
    ) -> Result<Self> {
        config.check()?;
        let packed = PackedCache::of(config);
        let mut layers = Vec::new();
        let opened = open::with_top(folder, name, config, &config.precisions(), packed.as_ref(), |backend| {
            if let Some(spec) = vectors {
                layers = open::load_layers(backend, &spec.heads)?;
            }
            Ok(Top::Rows)
        })?;
        let native = *opened.encoder;
        let sparse = match sparse {
            None => None,
            Some(spec) => Some(load_sparse(&native.backend, folder, spec, config, &opened.tokenizer)?),
        };
        let width = layers.iter().fold(opened.info.hidden, |width, head| head.width(width));
        let warm = Wanted { dense: None, sparse: sparse.is_some(), tokens: vectors.is_some() };
        let model = Self {
            tokenizer: opened.tokenizer,
            info: opened.info,
            include_prompt: opened.include_prompt,
            encoder: Box::new(Tokens { native, sparse, vectors: layers }),
            session: Session::new(config.threads, config.batch_tokens),
            width,
        };
        if config.warm_up {
            let _busy = model.session.pool.busy();
            let mut batch = Batch::default();
            push(&mut batch, &warm_up_text(|text| model.tokenizer.encode(text, ""))?);
            model.encoder.pass(&batch, 0, warm)?;
        }
        Ok(model)
    }

    /// Runs texts, batch by batch; `each` gets what was found for the texts of a batch.
    pub(crate) fn run(
        &self,
        texts: &Texts<'_>,
        wanted: Wanted,
        each: &mut dyn FnMut(Work<'_>, Found) -> Result<()>,
    ) -> Result<()> {
        self.session.run(texts, &mut |work| {
            let skip = if self.include_prompt { 0 } else { work.encoded.first().map_or(0, |e| e.prompt_tokens) };
            let (found, stages) = self.encoder.pass(work.batch, skip, wanted)?;
            if let Some(form) = wanted.dense {
                finite(&found.dense, form.dims, |row| work.first + row)?;
            }
            each(work, found).map(|()| stages)
        })
    }

    /// One pass over a batch.
    pub(crate) fn pass(&self, batch: &Batch, skip: usize, wanted: Wanted) -> Result<Found> {
        let _busy = self.session.pool.busy();
        self.encoder.pass(batch, skip, wanted).map(|(found, _)| found)
    }

    /// Components of a token's vector.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Where the time of the last finished call went.
    pub(crate) fn profile(&self) -> Profile {
        self.session.profile()
    }
}

fn load_sparse(
    backend: &Cpu,
    folder: &ModelFolder,
    spec: &SparseSpec,
    config: &Config,
    tokenizer: &Tokenizer,
) -> Result<Sparse<Cpu>> {
    match spec {
        SparseSpec::Terms { head, pooling, twice } => {
            let weights = folder.open_weights()?;
            let head = heads::terms(backend, folder, &*weights, head, config.precision)?;
            Ok(Sparse::Terms { head, pooling: *pooling, twice: *twice })
        }
        SparseSpec::Tokens { weights } => {
            let weights = embral_formats::open(weights)?;
            Ok(Sparse::Weight { head: heads::token_weight(backend, &*weights)?, without: tokenizer.special_ids() })
        }
    }
}

impl<B: Backend> TokenEncoder for Tokens<B> {
    fn pass(&self, batch: &Batch, skip: usize, wanted: Wanted) -> Result<(Found, Stages)> {
        let Native { backend, body, .. } = &self.native;
        let Body::Transformer { model, pooling } = body else {
            return Err(Error::new(ErrorKind::Unsupported, "a static model has no token rows"));
        };
        self.native.check_ids(batch)?;
        let (mut found, mut stages) = (Found::default(), Stages::default());
        let start = Instant::now();
        let plan = backend.plan(batch)?;
        let rows = model.rows(backend, &plan, batch, &mut |_, _| Ok(()))?;
        stages.inference = start.elapsed();
        let start = Instant::now();
        if let Some(form) = wanted.dense {
            found.dense = vec![0.0; batch.len() * form.dims];
            self.native.vectors_of((model, *pooling), &plan, &rows, (batch, skip), form, &mut found.dense)?;
        }
        if wanted.sparse {
            found.sparse = match &self.sparse {
                Some(head) => head.embeddings(backend, &rows, model.hidden(), batch)?,
                None => Vec::new(),
            };
        }
        if wanted.tokens {
            found.tokens = self.vectors(&rows, model.hidden(), batch.tokens())?;
        }
        stages.finish = start.elapsed();
        Ok((found, stages))
    }
}

impl<B: Backend> Tokens<B> {
    /// The vector of each token.
    fn vectors(&self, rows: &B::Buffer, hidden: usize, tokens: usize) -> Result<Vec<f32>> {
        let backend = &self.native.backend;
        let mut width = hidden;
        let mut current: Option<B::Buffer> = None;
        for head in &self.vectors {
            current = Some(match current {
                None => head.applied(backend, rows, tokens, width)?,
                Some(rows) => head.apply(backend, rows, tokens, width)?,
            });
            width = head.width(width);
        }
        let mut out = vec![0.0; tokens * width];
        backend.read(current.as_ref().unwrap_or(rows), &mut out)?;
        Ok(out)
    }
}

impl<B: Backend> Sparse<B> {
    fn embeddings(&self, backend: &B, rows: &B::Buffer, hidden: usize, batch: &Batch) -> Result<Vec<SparseEmbedding>> {
        match self {
            Self::Terms { head, pooling, twice } => {
                let mut pooled = PooledTerms::new(batch.len(), head.vocab(), *pooling, *twice);
                head.logits(backend, rows, hidden, batch, &mut |text, logits| pooled.add(text, logits))?;
                pooled.finish()
            }
            Self::Weight { head, without } => {
                let mut weights = vec![0.0; batch.tokens()];
                backend.read(&head.applied(backend, rows, batch.tokens(), hidden)?, &mut weights)?;
                let of = |ends: &[u32]| {
                    let range = ends[0] as usize..ends[1] as usize;
                    largest_weights(&batch.ids()[range.clone()], &weights[range], without)
                };
                Ok(batch.offsets().windows(2).map(of).collect())
            }
        }
    }
}
