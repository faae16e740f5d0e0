//! How fast a model embeds the lines of a file, tokenisation included.

use embral::{Config, Embedder, Embeddings, Error, ErrorKind, Precision, Profile, Result};
use std::{fmt, path::Path, time::Instant};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// A folder, a name or the address of a server; `None` is the default model.
    pub model: Option<String>,
    /// In which numbers the model is computed.
    pub precision: Precision,
    /// Threads that work; `None` is one for each core.
    pub threads: Option<usize>,
    /// Texts a call.
    pub batch_size: usize,
    /// The longest text in tokens; `None` is the model's limit.
    pub max_tokens: Option<usize>,
    /// How often all of the texts are embedded.
    pub rounds: usize,
    /// Whether packed weights may be taken from the cache folder, and kept there.
    pub packed_cache: bool,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each round, in seconds.
    pub seconds: Vec<f64>,
    /// Where the time of each round went: the sum of its calls.
    pub profiles: Vec<Profile>,
    /// Texts a round.
    pub texts: usize,
    /// Tokens a round, special tokens included.
    pub tokens: usize,
    /// From the start of opening the model to its first vector, in seconds.
    pub load_seconds: f64,
    /// The most memory the process has held, in bytes; 0 where the system does not say.
    pub peak_rss_bytes: u64,
    /// The vectors of the last round, in the order of the texts.
    pub vectors: Embeddings,
}

/// Opens the model, embeds the first batch to warm up, then all of the texts `rounds` times, in batches in the order they
/// come, one call a batch.
///
/// # Errors
/// Where the model cannot be opened, there is no text, or `batch_size` or `rounds` is 0.
pub fn run(options: &Options, texts: &[String]) -> Result<Report> {
    if texts.is_empty() || options.batch_size == 0 || options.rounds == 0 {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "a measurement needs texts, a batch size and rounds, found {}, {} and {}",
                texts.len(),
                options.batch_size,
                options.rounds
            ),
        ));
    }
    let start = Instant::now();
    let embedder = Embedder::with_config(Config {
        model: options.model.clone(),
        precision: options.precision,
        threads: options.threads,
        max_tokens: options.max_tokens,
        packed_cache: options.packed_cache,
        ..Config::default()
    })?;
    embedder.embed(&texts[0])?;
    let load_seconds = start.elapsed().as_secs_f64();
    embedder.embed_batch(&texts[..options.batch_size.min(texts.len())])?;

    let mut report = Report {
        seconds: Vec::with_capacity(options.rounds),
        profiles: Vec::with_capacity(options.rounds),
        texts: texts.len(),
        tokens: 0,
        load_seconds,
        peak_rss_bytes: 0,
        vectors: Embeddings::default(),
    };
    for _ in 0..options.rounds {
        let mut profile = Profile::default();
        let mut rows = Vec::with_capacity(texts.len() * embedder.dimensions());
        let start = Instant::now();
        for batch in texts.chunks(options.batch_size) {
            rows.extend_from_slice(embedder.embed_batch(batch)?.as_slice());
            profile.add(&embedder.profile());
        }
        report.seconds.push(start.elapsed().as_secs_f64());
        report.tokens = profile.tokens;
        report.profiles.push(profile);
        report.vectors = Embeddings::new(rows, embedder.dimensions());
    }
    report.peak_rss_bytes = embral::peak_rss_bytes();
    Ok(report)
}

/// The lines of a file that hold more than white space, `limit` of them at most.
///
/// # Errors
/// Where the file cannot be read or is not UTF-8.
pub fn read_lines(path: &Path, limit: Option<usize>) -> Result<Vec<String>> {
    let file = std::fs::read_to_string(path).map_err(|e| Error::io("cannot read", path, e))?;
    let lines = file.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
    Ok(lines.take(limit.unwrap_or(usize::MAX)).collect())
}

impl Report {
    /// The median of the rounds, in seconds.
    pub fn median_seconds(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
    }

    /// The stages of the round in the middle, in milliseconds, and its wall time; of an even number of rounds, of the faster of
    /// the two in the middle. `other` is what the stages leave of the wall time: copying and allocating.
    ///
    /// # Panics
    /// Where there was no round; [`run`] makes one at least.
    pub fn stages(&self) -> ([(&'static str, f64); 6], f64) {
        let mut order: Vec<(&f64, &Profile)> = self.seconds.iter().zip(&self.profiles).collect();
        order.sort_by(|a, b| a.0.total_cmp(b.0));
        let (seconds, p) = order[(order.len() - 1) / 2];
        let wall = seconds * 1e3;
        let inside = p.tokenize_ms + p.pack_ms + p.inference_ms + p.pool_ms + p.normalize_ms;
        let stages = [
            ("tokenize", p.tokenize_ms),
            ("pack", p.pack_ms),
            ("inference", p.inference_ms),
            ("pool", p.pool_ms),
            ("normalize", p.normalize_ms),
            ("other", wall - inside),
        ];
        (stages, wall)
    }

    /// The figures as one JSON object; the vectors are not in it. `stages` are those of [`Report::stages`].
    pub fn to_json(&self) -> String {
        let seconds: Vec<String> = self.seconds.iter().map(f64::to_string).collect();
        let (stages, wall) = self.stages();
        let stages: String = stages.iter().map(|(stage, ms)| format!("\"{stage}_ms\": {ms}, ")).collect();
        format!(
            "{{\"seconds\": [{}], \"texts\": {}, \"tokens\": {}, \"load_seconds\": {}, \"peak_rss_bytes\": {}, \
             \"stages\": {{{stages}\"wall_ms\": {wall}}}}}\n",
            seconds.join(", "),
            self.texts,
            self.tokens,
            self.load_seconds,
            self.peak_rss_bytes
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = self.median_seconds();
        let (fastest, slowest) =
            self.seconds.iter().fold((f64::INFINITY, 0f64), |(low, high), &s| (low.min(s), high.max(s)));
        writeln!(f, "texts       {:>12}", self.texts)?;
        writeln!(f, "tokens      {:>12}", self.tokens)?;
        writeln!(
            f,
            "median      {:>12.1} ms ({:.1} to {:.1} in {} rounds)",
            median * 1e3,
            fastest * 1e3,
            slowest * 1e3,
            self.seconds.len()
        )?;
        writeln!(f, "texts/s     {:>12.0}", self.texts as f64 / median)?;
        writeln!(f, "tokens/s    {:>12.0}", self.tokens as f64 / median)?;
        writeln!(f, "load        {:>12.1} ms", self.load_seconds * 1e3)?;
        write!(f, "peak memory {:>12.1} MB", self.peak_rss_bytes as f64 / 1e6)?;
        let (stages, wall) = self.stages();
        write!(f, "\n\nstages of the median round; tokenize is what was waited for")?;
        for (stage, ms) in stages {
            write!(f, "\n{stage:<12}{ms:>12.1} ms {:>5.1} %", 100.0 * ms / wall)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of which a tenth is waiting for tokens and half is inference.
    fn report(seconds: &[f64]) -> Report {
        let profile =
            |s: &f64| Profile { tokenize_ms: 100.0 * s, inference_ms: 500.0 * s, tokens: 10, ..Profile::default() };
        Report {
            seconds: seconds.to_vec(),
            profiles: seconds.iter().map(profile).collect(),
            texts: 2,
            tokens: 10,
            load_seconds: 0.25,
            peak_rss_bytes: 4096,
            vectors: Embeddings::default(),
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(report(&[3.0, 1.0, 2.0]).median_seconds(), 2.0);
        assert_eq!(report(&[4.0, 1.0, 2.0, 3.0]).median_seconds(), 2.5);
    }

    #[test]
    fn the_json_has_the_agreed_names() {
        let json = report(&[0.5, 1.5]).to_json();
        assert_eq!(
            json,
            "{\"seconds\": [0.5, 1.5], \"texts\": 2, \"tokens\": 10, \"load_seconds\": 0.25, \"peak_rss_bytes\": 4096, \
             \"stages\": {\"tokenize_ms\": 50, \"pack_ms\": 0, \"inference_ms\": 250, \"pool_ms\": 0, \"normalize_ms\": 0, \
             \"other_ms\": 200, \"wall_ms\": 500}}\n"
        );
        assert!(report(&[0.5]).to_string().contains("tokens/s              20"));
    }

    #[test]
    fn the_stages_are_those_of_the_round_in_the_middle() {
        let (stages, wall) = report(&[4.0, 1.0, 2.0]).stages();
        assert_eq!((stages[0], stages[2], wall), (("tokenize", 200.0), ("inference", 1000.0), 2000.0));
        assert_eq!(stages.iter().map(|(_, ms)| ms).sum::<f64>(), wall);
        assert_eq!(report(&[4.0, 1.0, 2.0, 3.0]).stages().1, 2000.0);
        let table = report(&[2.0]).to_string();
        assert!(table.contains("\ninference         1000.0 ms  50.0 %\n"), "{table}");
    }

    #[test]
    fn blank_lines_are_no_texts_and_nothing_is_no_measurement() {
        let file = std::env::temp_dir().join(format!("embral-bench-{}.txt", std::process::id()));
        std::fs::write(&file, "a\n\n  \r\nb \r\nc").unwrap();
        assert_eq!(read_lines(&file, None).unwrap(), ["a", "b ", "c"]);
        assert_eq!(read_lines(&file, Some(1)).unwrap(), ["a"]);
        std::fs::remove_file(&file).unwrap();
        assert!(read_lines(&file, None).is_err());
        let options = Options {
            model: None,
            precision: Precision::F32,
            threads: None,
            batch_size: 1,
            max_tokens: None,
            rounds: 1,
            packed_cache: false,
        };
        assert!(run(&options, &[]).is_err());
    }
}
