//! Where the time of a call went.

use std::fmt;

/// The last call, by stage.
///
/// Pooling and normalisation are one pass over the rows where nothing comes between them; that pass counts as pooling.
/// The stages count wall time on the thread of the caller; what they leave of the whole call is allocating and the like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Profile {
    /// Waiting for token ids, milliseconds: tokenising the first texts of the call, and of what is tokenised while the vectors of
    /// earlier texts are computed, the part that was not ready in time. In a call with one thread, all tokenisation.
    pub tokenize_ms: f64,
    /// Text to token ids, milliseconds, waited for or not: the wall time of each thread that tokenised, summed.
    pub tokenize_work_ms: f64,
    /// Ids to packed batches, milliseconds.
    pub pack_ms: f64,
    /// Packed batches to token rows, milliseconds.
    pub inference_ms: f64,
    /// Token rows to one row a text, milliseconds.
    pub pool_ms: f64,
    /// Heads, Matryoshka cut and normalisation after pooling, milliseconds.
    pub normalize_ms: f64,
    /// The whole call, milliseconds.
    pub total_ms: f64,
    /// Texts embedded.
    pub texts: usize,
    /// Texts whose vectors were kept from before: they cost no tokens.
    pub cached: usize,
    /// Tokens computed, special tokens included.
    pub tokens: usize,
    /// Texts that were longer than the limit and were cut.
    pub truncated: usize,
    /// `tokens` over the whole call's time.
    pub tokens_per_second: f64,
    /// The most memory the process has held so far, bytes; 0 where the system does not say.
    pub peak_rss_bytes: u64,
}

impl Profile {
    pub(crate) fn close(&mut self, total_ms: f64) {
        self.total_ms = total_ms;
        self.tokens_per_second = rate(self.tokens, total_ms);
        self.peak_rss_bytes = peak_rss_bytes();
    }

    /// Adds another call: times and counts are summed, the rate is that of the sum, the peak is the larger one.
    pub fn add(&mut self, call: &Self) {
        self.tokenize_ms += call.tokenize_ms;
        self.tokenize_work_ms += call.tokenize_work_ms;
        self.pack_ms += call.pack_ms;
        self.inference_ms += call.inference_ms;
        self.pool_ms += call.pool_ms;
        self.normalize_ms += call.normalize_ms;
        self.total_ms += call.total_ms;
        self.texts += call.texts;
        self.cached += call.cached;
        self.tokens += call.tokens;
        self.truncated += call.truncated;
        self.tokens_per_second = rate(self.tokens, self.total_ms);
        self.peak_rss_bytes = self.peak_rss_bytes.max(call.peak_rss_bytes);
    }
}

fn rate(tokens: usize, ms: f64) -> f64 {
    if ms > 0.0 { tokens as f64 / ms * 1e3 } else { 0.0 }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14}{:>10.3} ms waited for, {:.3} ms of work",
            "tokenisation", self.tokenize_ms, self.tokenize_work_ms
        )?;
        let rows = [
            ("packing", self.pack_ms),
            ("inference", self.inference_ms),
            ("pooling", self.pool_ms),
            ("normalisation", self.normalize_ms),
            ("total", self.total_ms),
        ];
        for (stage, ms) in rows {
            writeln!(f, "{stage:<14}{ms:>10.3} ms")?;
        }
        if self.cached > 0 {
            writeln!(f, "{} of the texts from the vector cache", self.cached)?;
        }
        write!(
            f,
            "{} texts, {} tokens, {:.0} tokens/s, peak memory {:.0} MB",
            self.texts,
            self.tokens,
            self.tokens_per_second,
            self.peak_rss_bytes as f64 / 1e6
        )
    }
}

/// The most memory this process has held so far, bytes; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_is_more_than_what_was_just_allocated() {
        let block = vec![1u8; 64 << 20];
        assert!(peak_rss_bytes() > block.len() as u64);
    }

    #[test]
    fn closing_derives_the_rate() {
        let mut profile = Profile { tokens: 500, ..Profile::default() };
        profile.close(250.0);
        assert_eq!(profile.tokens_per_second, 2000.0);
        assert!(profile.to_string().contains("tokenisation"));
    }

    #[test]
    fn calls_add_up() {
        let call = |ms: f64, tokens| {
            let mut call =
                Profile { inference_ms: ms / 2.0, tokenize_work_ms: ms, texts: 1, tokens, ..Profile::default() };
            call.close(ms);
            call
        };
        let mut sum = Profile::default();
        sum.add(&call(100.0, 200));
        sum.add(&call(300.0, 600));
        assert_eq!((sum.total_ms, sum.inference_ms, sum.tokenize_work_ms), (400.0, 200.0, 400.0));
        assert_eq!((sum.texts, sum.tokens, sum.tokens_per_second), (2, 800, 2000.0));
    }
}
