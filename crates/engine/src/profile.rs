//! Where the time of a call went.

use std::fmt;

/// The last call, by stage.
///
/// Pooling and normalisation are one pass over the rows where nothing comes between them; that pass counts as pooling.
/// Parallel stages count wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Profile {
    /// Text to token ids, milliseconds.
    pub tokenize_ms: f64,
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
        self.tokens_per_second = if total_ms > 0.0 { self.tokens as f64 / total_ms * 1e3 } else { 0.0 };
        self.peak_rss_bytes = peak_rss_bytes();
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("tokenisation", self.tokenize_ms),
            ("packing", self.pack_ms),
            ("inference", self.inference_ms),
            ("pooling", self.pool_ms),
            ("normalisation", self.normalize_ms),
            ("total", self.total_ms),
        ];
        for (stage, ms) in rows {
            writeln!(f, "{stage:<14}{ms:>10.3} ms")?;
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
}
