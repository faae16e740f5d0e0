//! What the server holds in memory, from `/proc/PID/status`.

use super::figures::slope;
use embral::{Error, ErrorKind, Result};

/// The resident memory of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the start of what is measured.
    pub seconds: f64,
    /// Requests that had ended.
    pub requests: u64,
    /// In bytes.
    pub rss_bytes: u64,
}

/// The memory of a process over a run.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The process.
    pub pid: u32,
    /// In the order they were taken, the first at the start and the last at the end.
    pub samples: Vec<Sample>,
    /// The process was gone before the end.
    pub gone: bool,
}

impl Memory {
    /// The slope of the least-squares line, in bytes a request.
    pub fn slope(&self) -> Option<f64> {
        slope(&self.samples.iter().map(|s| (s.requests as f64, s.rss_bytes as f64)).collect::<Vec<_>>())
    }

    /// `n` samples at most, evenly apart, the first and the last among them.
    pub fn evenly(&self, n: usize) -> Vec<Sample> {
        let last = self.samples.len().saturating_sub(1);
        if last < n {
            return self.samples.clone();
        }
        (0..n).map(|i| self.samples[i * last / (n - 1).max(1)]).collect()
    }
}

/// The resident memory of a process now, in bytes.
pub(super) fn rss(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("cannot read", &path, e))?;
    parse(&text).ok_or_else(|| {
        Error::new(ErrorKind::Malformed, "no line VmRSS in kB: the process has ended, or belongs to the kernel")
            .in_file(path)
    })
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The time that this thread has been computing, in seconds; `None` where the system does not say.
pub(super) fn own_cpu() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<u64>().ok()? as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_resident_memory_is_read() {
        assert_eq!(parse("Name:\tembral\nVmHWM:\t  9000 kB\nVmRSS:\t    1234 kB\nThreads:\t2\n"), Some(1234 * 1024));
        for other in ["", "VmRSS:", "VmRSS: x kB", "VmRSS: 12 MB", "VmRSS: 99999999999999999 kB", "Name: VmRSS: 1 kB"] {
            assert_eq!(parse(other), None, "{other}");
        }
        if cfg!(target_os = "linux") {
            assert!(rss(std::process::id()).unwrap() > 1 << 20);
            assert!(rss(u32::MAX).is_err());
        }
    }

    #[test]
    fn the_slope_is_in_bytes_a_request() {
        let sample = |i: u64| Sample { seconds: i as f64, requests: i * 500, rss_bytes: 1 << 20 | (i * 1000) };
        let memory = Memory { pid: 1, samples: (0..11).map(sample).collect(), gone: false };
        assert!((memory.slope().unwrap() - 2.0).abs() < 0.1, "{:?}", memory.slope());
        let requests: Vec<u64> = memory.evenly(3).iter().map(|s| s.requests).collect();
        assert_eq!(requests, [0, 2500, 5000]);
        assert_eq!(memory.evenly(20).len(), 11);
    }
}
