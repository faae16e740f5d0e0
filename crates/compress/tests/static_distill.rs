//! A tiny teacher, distilled on a small corpus.

use embral::{Config, Embedder};
use embral_compress::{
    Progress,
    static_distill::{Objective, Options, Refinement, Report, run},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

const BYTES: usize = 20_000;
const DIMS: usize = 16;

/// Keeps what a run says.
#[derive(Default)]
struct Log(Vec<String>);

impl Progress for Log {
    fn begin(&mut self, stage: &str, steps: u64, unit: &str) {
        self.0.push(format!("{stage}: {steps} {unit}"));
    }
    fn advance(&mut self, _steps: u64) {}
    fn say(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
}

fn teacher() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden/tiny_bert")
}

/// 400 sentences out of a few words, some of which the teacher's tokenizer splits, and 40 pairs of them.
fn corpus(folder: &Path) -> (PathBuf, PathBuf) {
    let words = [
        "the", "cat", "sat", "on", "mat", "a", "dog", "water", "music", "science", "runs", "vectors", "hello", "world",
    ];
    let mut state = 17u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        words[(state >> 16) as usize % words.len()]
    };
    let texts: Vec<String> = (0..400).map(|n| (0..3 + n % 6).map(|_| word()).collect::<Vec<_>>().join(" ")).collect();
    let pair = |n: usize| serde_json::json!({"q": texts[n], "p": texts[n + 200]}).to_string();
    let (lines, pairs) = (folder.join("texts.txt"), folder.join("pairs.jsonl"));
    fs::write(&lines, texts.join("\n")).unwrap();
    fs::write(&pairs, (0..40).map(pair).collect::<Vec<_>>().join("\n")).unwrap();
    (lines, pairs)
}

fn options(folder: &Path, output: &str) -> Options {
    let (texts, pairs) = corpus(folder);
    let sts = folder.join("dev.tsv");
    fs::write(&sts, "score\ts1\ts2\n5\tthe cat\ta cat sat\n1\tmusic\twater runs\n3\thello world\thello dog\n").unwrap();
    Options {
        teacher: teacher(),
        corpus: vec![texts],
        pairs: vec![pairs],
        output: folder.join(output),
        dims: DIMS,
        bytes: BYTES,
        threads: Some(1),
        refinement: Refinement {
            epochs: 4,
            batch: 64,
            leaf: 4,
            learning_rate: 0.02,
            objective: Objective { cuts: vec![(DIMS, 1.0)], ..Refinement::default().objective },
            ..Refinement::default()
        },
        sts: vec![sts],
        cuts: vec![8],
        ..Options::default()
    }
}

fn distil(options: &Options) -> Report {
    run(options, &mut ()).unwrap()
}

fn files(folder: &Path) -> [Vec<u8>; 3] {
    ["model.safetensors", "tokenizer.json", "config.json"].map(|name| fs::read(folder.join(name)).unwrap())
}

#[test]
fn refinement_approaches_the_teacher_and_the_folder_opens() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), "out");
    let mut log = Log::default();
    let report = run(&options, &mut log).unwrap();

    let (first, last) = (report.epochs[0], report.epochs[3]);
    assert!(last.direction < 0.7 * first.direction, "{first:?} {last:?}");
    assert!(last.structure < first.structure, "{first:?} {last:?}");
    assert!(log.0.iter().any(|line| line.starts_with("refinement: ")), "{:?}", log.0);
    assert!(log.0.iter().any(|line| line.starts_with("epoch 4 of 4")), "{:?}", log.0);

    let weights = fs::metadata(options.output.join("model.safetensors")).unwrap().len() as usize;
    assert_eq!(report.bytes, weights);
    assert!(weights <= BYTES, "{weights}");
    assert!(report.words > 0 && report.unseen < report.rows);
    let score = &report.scores[0];
    assert_eq!((score.measure, score.cuts[0].0), ("Spearman", 8));
    assert!(report.markdown().contains(&score.set) && report.json()["scores"][0]["stored_int8"] == score.stored);

    let open = |path: &Path| {
        Embedder::with_config(Config { threads: Some(1), ..Config::model(path.to_string_lossy()) }).unwrap()
    };
    let (table, teacher) = (open(&options.output), open(&options.teacher));
    assert_eq!(table.dimensions(), DIMS);
    // Texts that are near for the teacher are near for the table.
    let texts = ["the cat sat on the mat", "a cat sat on a mat", "hello world music science"];
    let nearer = |e: &Embedder| {
        let v = e.embed_batch(&texts).unwrap();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        dot(v.row(0), v.row(1)) > dot(v.row(0), v.row(2))
    };
    assert_eq!(nearer(&table), nearer(&teacher));
}

#[test]
fn the_bytes_depend_on_the_seed_and_on_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let first = options(folder.path(), "first");
    distil(&first);
    let threads = Options { threads: Some(2), output: folder.path().join("threads"), ..first.clone() };
    distil(&threads);
    let cached =
        Options { cache: Some(folder.path().join("cache")), output: folder.path().join("cached"), ..first.clone() };
    distil(&cached);
    let again = Options { output: folder.path().join("again"), ..cached.clone() };
    distil(&again);
    let seed = Options { seed: 18, output: folder.path().join("seed"), ..first.clone() };
    distil(&seed);
    let expected = files(&first.output);
    for other in [&threads, &cached, &again] {
        assert!(files(&other.output) == expected, "{}", other.output.display());
    }
    assert!(files(&seed.output)[0] != expected[0]);
}

#[test]
fn a_cache_that_was_cut_short_goes_on_and_a_foreign_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let first = Options { cache: Some(cache.clone()), ..options(folder.path(), "first") };
    distil(&first);
    let largest = fs::read_dir(&cache)
        .unwrap()
        .map(|f| f.unwrap().path())
        .max_by_key(|p| fs::metadata(p).unwrap().len())
        .unwrap();
    let whole = fs::read(&largest).unwrap();
    // In the middle of row 100.
    fs::write(&largest, &whole[..24 + 100 * 2 * 32 + 13]).unwrap();
    let second = Options { output: folder.path().join("second"), ..first.clone() };
    distil(&second);
    assert!(fs::read(&largest).unwrap() == whole);
    assert!(files(&second.output) == files(&first.output));

    fs::write(&largest, b"something else altogether, longer than a header").unwrap();
    let error = run(&second, &mut ()).unwrap_err().to_string();
    assert!(error.contains("no cache of teacher vectors"), "{error}");
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = options(folder.path(), "out");
    let refused = |options: Options| run(&options, &mut ()).unwrap_err().to_string();
    assert!(refused(Options { dims: 4096, ..good.clone() }).contains("dims is 1 to"));
    assert!(refused(Options { bytes: 1000, ..good.clone() }).contains("do not fit into 1000 bytes"));
    assert!(refused(Options { teacher: folder.path().join("none"), ..good.clone() }).contains("none"));
    assert!(refused(Options { corpus: vec![folder.path().join("none.txt")], ..good }).contains("none.txt"));
}
