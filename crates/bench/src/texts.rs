//! How fast a model embeds the lines of a file, tokenisation included.

use embral::{Config, Embedder, Embeddings, Error, ErrorKind, Precision, Result};
use std::{fmt, path::Path, time::Instant};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// A folder or a name; `None` is the default model.
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
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each round, in seconds.
    pub seconds: Vec<f64>,
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
        ..Config::default()
    })?;
    embedder.embed(&texts[0])?;
    let load_seconds = start.elapsed().as_secs_f64();
    embedder.embed_batch(&texts[..options.batch_size.min(texts.len())])?;

    let mut report = Report {
        seconds: Vec::with_capacity(options.rounds),
        texts: texts.len(),
        tokens: 0,
        load_seconds,
        peak_rss_bytes: 0,
        vectors: Embeddings::default(),
    };
    for _ in 0..options.rounds {
        let mut tokens = 0;
        let mut rows = Vec::with_capacity(texts.len() * embedder.dimensions());
        let start = Instant::now();
        for batch in texts.chunks(options.batch_size) {
            rows.extend_from_slice(embedder.embed_batch(batch)?.as_slice());
            tokens += embedder.profile().tokens;
        }
        report.seconds.push(start.elapsed().as_secs_f64());
        report.tokens = tokens;
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

    /// The figures as one JSON object; the vectors are not in it.
    pub fn to_json(&self) -> String {
        let seconds: Vec<String> = self.seconds.iter().map(f64::to_string).collect();
        format!(
            "{{\"seconds\": [{}], \"texts\": {}, \"tokens\": {}, \"load_seconds\": {}, \"peak_rss_bytes\": {}}}\n",
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
        write!(f, "peak memory {:>12.1} MB", self.peak_rss_bytes as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seconds: &[f64]) -> Report {
        let (vectors, seconds) = (Embeddings::default(), seconds.to_vec());
        Report { seconds, texts: 2, tokens: 10, load_seconds: 0.25, peak_rss_bytes: 4096, vectors }
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
            "{\"seconds\": [0.5, 1.5], \"texts\": 2, \"tokens\": 10, \"load_seconds\": 0.25, \"peak_rss_bytes\": 4096}\n"
        );
        assert!(report(&[0.5]).to_string().contains("tokens/s              20"));
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
        };
        assert!(run(&options, &[]).is_err());
    }
}
