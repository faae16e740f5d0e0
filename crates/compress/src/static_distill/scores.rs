//! Scoring the teacher and the table at each stage on the sets of the options.

use super::{Options, Score, optimise::Pooled, teacher, tokens::Tokens};
use crate::{
    Progress,
    evaluate::{Retrieval, Sts},
};
use embral::{Config, Embedder};
use embral_kernels::Pool;
use embral_tokenize::Tokenizer;
use embral_types::{Embeddings, Result};

/// Tokens of a text that model2vec takes the mean of.
const MODEL2VEC_TOKENS: usize = 512;
/// Texts embedded at a time.
const BLOCK: usize = 2048;

/// The evaluation sets of a run.
pub(crate) struct Sets {
    sts: Vec<Sts>,
    retrieval: Vec<Retrieval>,
}

/// What gives the vectors of a set's texts.
pub(crate) type Source<'a> = dyn Fn(&[String], &mut dyn Progress) -> Result<Embeddings> + 'a;

/// The vectors of a table in f32.
pub(crate) fn of_table<'a>(
    pool: &'a Pool,
    tokenizer: &'a Tokenizer,
    table: &'a [f32],
    width: usize,
) -> impl Fn(&[String], &mut dyn Progress) -> Result<Embeddings> + 'a {
    move |texts, _| {
        let tokens = Tokens::of(pool, tokenizer, texts, MODEL2VEC_TOKENS)?;
        let indices: Vec<u32> = (0..texts.len() as u32).collect();
        let mut out = Vec::with_capacity(texts.len() * width);
        for block in indices.chunks(BLOCK) {
            let ids: Vec<&[u32]> = block.iter().map(|&t| tokens.text(t)).collect();
            out.extend(Pooled::of(pool, table, width, &ids).units);
        }
        Ok(Embeddings::new(out, width))
    }
}

impl Sets {
    pub(crate) fn read(options: &Options) -> Result<Self> {
        let sts = options.sts.iter().map(|path| Sts::read(path)).collect::<Result<_>>()?;
        let retrieval =
            options.retrieval.iter().map(|(folder, split)| Retrieval::read(folder, split)).collect::<Result<_>>()?;
        Ok(Self { sts, retrieval })
    }

    /// The score of each set, those of similarity first.
    pub(crate) fn scores(&self, source: &Source<'_>, progress: &mut dyn Progress) -> Result<Vec<f64>> {
        let mut scores = Vec::new();
        for set in &self.sts {
            scores.push(set.correlation(&source(set.texts(), progress)?));
        }
        for set in &self.retrieval {
            let (queries, documents) = set.texts();
            scores.push(set.ndcg(&source(queries, progress)?, &source(documents, progress)?));
        }
        Ok(scores)
    }

    /// All scores of a run: what was given, the teacher's, and those of the folder that was written.
    pub(crate) fn table(
        &self,
        options: &Options,
        teacher: &Embedder,
        start: &[f64],
        refined: &[f64],
        progress: &mut dyn Progress,
    ) -> Result<Vec<Score>> {
        let cache = options.cache.as_deref();
        let by_teacher = |texts: &[String], progress: &mut dyn Progress| {
            let vectors = teacher::vectors(teacher, texts, cache, progress)?;
            let mut out = vec![0.0; texts.len() * vectors.dim];
            for (index, row) in out.chunks_mut(vectors.dim).enumerate() {
                vectors.read(index, row);
            }
            Ok(Embeddings::new(out, vectors.dim))
        };
        let by_teacher = self.scores(&by_teacher, progress)?;
        let stored = self.stored(options, None, progress)?;
        let cuts: Vec<usize> = options.cuts.iter().copied().filter(|&cut| cut > 0 && cut < options.dims).collect();
        let mut by_cut = Vec::new();
        for &cut in &cuts {
            by_cut.push(self.stored(options, Some(cut), progress)?);
        }
        let names = self.sts.iter().map(|set| (&set.name, "Spearman"));
        let names = names.chain(self.retrieval.iter().map(|set| (&set.name, "nDCG@10")));
        let score = |(index, (name, measure)): (usize, (&String, &'static str))| Score {
            set: name.clone(),
            measure,
            teacher: by_teacher[index],
            start: start[index],
            refined: refined[index],
            stored: stored[index],
            cuts: cuts.iter().zip(&by_cut).map(|(&cut, scores)| (cut, scores[index])).collect(),
        };
        Ok(names.enumerate().map(score).collect())
    }

    /// The scores of the folder that was written.
    fn stored(&self, options: &Options, dims: Option<usize>, progress: &mut dyn Progress) -> Result<Vec<f64>> {
        let config = Config { dims, threads: options.threads, ..Config::model(options.output.to_string_lossy()) };
        let embedder = Embedder::with_config(config)?;
        self.scores(&|texts: &[String], _: &mut dyn Progress| embedder.embed_batch(texts), progress)
    }
}
