//! Static distillation: a table of token vectors that says what a transformer says, ten thousand times faster.
//!
//! A text's vector is the normalised mean of the rows of its tokens. The run: read the corpus and ask the teacher for the vector of
//! every text; give rows that no text needs to frequent words; start every row at the teacher's vector of its piece alone, in the
//! principal directions of the teacher's vectors, weighted by rarity; refine all rows on the whole corpus; turn the table so that
//! its first components hold most; store it in 8 bits.
//!
//! The same files, options and instruction set give the same bytes, at any number of threads.

mod corpus;
mod folder;
mod objective;
mod optimise;
mod pca;
mod plan;
mod refine;
mod report;
mod scores;
mod table;
mod teacher;
mod tokens;
mod vocabulary;

pub use objective::Objective;
pub use refine::Epoch;
pub use report::{Report, Score};

use crate::Progress;
use corpus::Corpus;
use embral::{Config, Embedder};
use embral_kernels::Pool;
use embral_types::{Error, ErrorKind, Result};
use pca::Basis;
use refine::Material;
use std::{fs, path::PathBuf, time::Instant};
use table::Quantised;
use teacher::Vectors;
use tokens::Tokens;
use vocabulary::Vocabulary;

/// Tokens of a text that the table's rows are fitted to, beyond the special ones a teacher adds.
const TEXT_TOKENS: usize = 254;
/// Texts the principal directions are taken from.
const BASIS_TEXTS: usize = 100_000;
/// `a` of the rarity weight `a / (a + p)`.
const RARITY: f64 = 1e-3;

/// What to distil, from what, into what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The teacher: a model folder or name with a `tokenizer.json`.
    pub teacher: PathBuf,
    /// Files with a text a line, or folders with `.txt` files.
    pub corpus: Vec<PathBuf>,
    /// Files of JSON lines with the texts `q` and `p` that belong together, or folders with `.jsonl` files.
    pub pairs: Vec<PathBuf>,
    /// The folder that is written.
    pub output: PathBuf,
    /// Components of a row; at most the teacher's.
    pub dims: usize,
    /// The most bytes of `model.safetensors`.
    pub bytes: usize,
    /// Threads; `None` is one for each core. The result does not depend on it.
    pub threads: Option<usize>,
    /// Seed of everything drawn by chance.
    pub seed: u64,
    /// Where the teacher's vectors are kept between runs; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// How the table is refined.
    pub refinement: Refinement,
    /// Similarity sets to score on: tab-separated files with `score`, `s1` and `s2`.
    pub sts: Vec<PathBuf>,
    /// Retrieval sets to score on: BEIR folders, and the split of each.
    pub retrieval: Vec<(PathBuf, String)>,
    /// Widths to score cuts at.
    pub cuts: Vec<usize>,
}

/// How the table is refined.
#[derive(Clone, Debug, PartialEq)]
pub struct Refinement {
    /// Passes over all texts; 0 leaves the table as it starts.
    pub epochs: usize,
    /// Texts compared with each other in one step.
    pub batch: usize,
    /// Neighbours that are kept together in a batch.
    pub leaf: usize,
    /// Adam's step at its height; it falls to 0 linearly.
    pub learning_rate: f32,
    /// Pairs of one file used in an epoch.
    pub pair_limit: usize,
    /// The loss.
    pub objective: Objective,
}

impl Default for Refinement {
    fn default() -> Self {
        Self {
            epochs: 6,
            batch: 1024,
            leaf: 16,
            learning_rate: 0.008,
            pair_limit: 16_000,
            objective: Objective {
                direction: 1.0,
                structure: 0.6,
                temperature: 0.1,
                known: 0.3,
                cuts: vec![(usize::MAX, 1.0)],
            },
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            teacher: PathBuf::new(),
            corpus: Vec::new(),
            pairs: Vec::new(),
            output: PathBuf::new(),
            dims: 256,
            bytes: 8_000_000,
            threads: None,
            seed: 17,
            cache: None,
            refinement: Refinement::default(),
            sts: Vec::new(),
            retrieval: Vec::new(),
            cuts: vec![128, 64, 32],
        }
    }
}

/// Distils, writes the folder (`model.safetensors`, `tokenizer.json`, `config.json`, `modules.json`, `report.json`, `report.md`), and
/// reports.
///
/// Costs the teacher's time for every text of the corpus, once with a cache; memory for the texts and 2 bytes a component of each
/// text's vector (0.5 GB for 640,000 texts of 384 components).
///
/// # Errors
/// Where a file is missing or malformed, the teacher cannot be opened, or the options do not fit each other.
pub fn run(options: &Options, progress: &mut dyn Progress) -> Result<Report> {
    let started = Instant::now();
    let pool = Pool::shared(options.threads);
    let sets = scores::Sets::read(options)?;
    let corpus = Corpus::read(&options.corpus, &options.pairs)?;
    let teacher = open_teacher(options)?;
    let info = teacher.info();
    let folder = info.path.clone().ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "the teacher must be a model folder, not the model inside the library")
    })?;
    let name = info.name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let vocabulary = Vocabulary::of_teacher(&folder)?;
    check(options, &teacher)?;

    let cache = options.cache.as_deref();
    let vectors = teacher::vectors(&teacher, &corpus.texts, cache, progress)?;
    let limit = teacher.max_tokens().saturating_sub(2).clamp(1, TEXT_TOKENS);
    let first_tokens = Tokens::of(&pool, &vocabulary.tokenizer, &corpus.texts, limit)?;
    let vocabulary =
        vocabulary.fitted(&first_tokens, &corpus.sources, folder::rows_within(options.bytes, options.dims))?;
    let rows = vocabulary.tokenizer.vocab_size();
    if rows > folder::rows_within(options.bytes, options.dims) {
        let message = format!("{rows} rows of {} components do not fit into {} bytes", options.dims, options.bytes);
        return Err(Error::new(ErrorKind::InvalidInput, message).hint("allow fewer dimensions or more bytes"));
    }
    let tokens = Tokens::of(&pool, &vocabulary.tokenizer, &corpus.texts, limit)?;
    let counts = tokens.counts(rows);
    progress.say(&format!(
        "{} texts, {} tokens, {} pairs; {} rows, {} of them given to words",
        corpus.texts.len(),
        tokens.total(),
        corpus.pairs.len(),
        rows,
        vocabulary.words
    ));

    let basis = principal_directions(&pool, &vectors, options.dims, options.seed);
    let pieces: Vec<String> = (0..rows as u32)
        .map(|id| vocabulary.tokenizer.token(id).unwrap_or_default().trim_start_matches("##").to_owned())
        .collect();
    let pieces = teacher::vectors(&teacher, &pieces, cache, progress)?;
    let mut table = table::start(&pool, &pieces, &basis, &counts, RARITY);
    let start_scores = sets.scores(&scores::of_table(&pool, &vocabulary.tokenizer, &table, options.dims), progress)?;

    let material = Material {
        pool: &pool,
        vectors: &vectors,
        tokens: &tokens,
        pairs: &corpus.pairs,
        basis: &basis,
        settings: &options.refinement,
        seed: options.seed,
    };
    let epochs = refine::refine(&mut table, &material, progress);
    table::turn(&pool, &mut table, options.dims, &tokens, options.seed);
    let refined_scores =
        sets.scores(&scores::of_table(&pool, &vocabulary.tokenizer, &table, options.dims), progress)?;
    let quantised = Quantised::of(&table, options.dims);
    let bytes = folder::write(&options.output, &quantised, options.dims, &vocabulary.json, &name)?;

    let report = Report {
        scores: sets.table(options, &teacher, &start_scores, &refined_scores, progress)?,
        teacher: name,
        texts: corpus.texts.len(),
        pairs: corpus.pairs.len(),
        tokens: tokens.total(),
        rows,
        dims: options.dims,
        words: vocabulary.words,
        unseen: counts.iter().filter(|&&count| count == 0).count(),
        teacher_energy: basis.energy.iter().sum(),
        epochs,
        seed: options.seed,
        bytes,
        seconds: started.elapsed().as_secs_f64(),
    };
    for (file, text) in [("report.json", format!("{:#}\n", report.json())), ("report.md", report.markdown())] {
        let path = options.output.join(file);
        fs::write(&path, text).map_err(|e| Error::io("cannot write", path, e))?;
    }
    Ok(report)
}

fn open_teacher(options: &Options) -> Result<Embedder> {
    let config =
        Config { threads: options.threads, normalize: Some(true), ..Config::model(options.teacher.to_string_lossy()) };
    Embedder::with_config(config)
}

fn check(options: &Options, teacher: &Embedder) -> Result<()> {
    let refuse = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
    if options.dims == 0 || options.dims > teacher.dimensions() {
        return refuse(format!(
            "dims is 1 to {}, the teacher's dimensions; found {}",
            teacher.dimensions(),
            options.dims
        ));
    }
    let Refinement { batch, leaf, learning_rate, .. } = options.refinement;
    if batch < 2 || leaf == 0 || !learning_rate.is_finite() {
        return refuse(format!(
            "batch is at least 2, leaf at least 1, the learning rate finite; found {batch}, {leaf}, {learning_rate}"
        ));
    }
    Ok(())
}

fn principal_directions(pool: &Pool, vectors: &Vectors, dims: usize, seed: u64) -> Basis {
    let mut order: Vec<usize> = (0..vectors.len()).collect();
    crate::random::Random::new(seed).shuffle(&mut order);
    order.truncate(BASIS_TEXTS);
    Basis::of(pool, order.len(), vectors.dim, dims, |i, out| vectors.read(order[i], out))
}
