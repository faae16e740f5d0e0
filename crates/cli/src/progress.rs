//! Saying how far a long run is: a bar at a terminal, a line now and then in a log, nothing where silence is asked for.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// How progress is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// A bar that is redrawn.
    Bar,
    /// A line every few seconds.
    Lines,
    /// Nothing.
    Quiet,
}

impl Voice {
    /// The fitting one for standard error.
    pub(crate) fn fitting(quiet: bool) -> Self {
        match quiet {
            true => Self::Quiet,
            false if std::io::stderr().is_terminal() => Self::Bar,
            false => Self::Lines,
        }
    }
}

/// Runs shorter than this say nothing while they run.
const PATIENCE: Duration = Duration::from_millis(700);
/// Between two lines of a log.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Steps of the bar.
const STEPS: u64 = 1000;

/// The progress of one run.
pub(crate) struct Progress {
    voice: Voice,
    bar: Option<ProgressBar>,
    started: Instant,
    said: Instant,
    /// Rows that earlier runs wrote.
    before: u64,
    texts: u64,
    tokens: u64,
    /// The part of the input that was read when this run's first texts came, and is now.
    from: Option<f64>,
    part: Option<f64>,
}

impl Progress {
    pub(crate) fn new(voice: Voice, before: u64) -> Self {
        let now = Instant::now();
        Self { voice, bar: None, started: now, said: now, before, texts: 0, tokens: 0, from: None, part: None }
    }

    /// The part of the input that lies behind the first text of this run.
    pub(crate) fn begin(&mut self, part: Option<f64>) {
        self.from = part;
    }

    /// Counts texts that have been embedded; `part` is the part of the input that has been read for them.
    pub(crate) fn advance(&mut self, texts: usize, tokens: usize, part: Option<f64>) {
        self.texts += texts as u64;
        self.tokens += tokens as u64;
        self.part = part;
        match self.voice {
            Voice::Bar if self.started.elapsed() >= PATIENCE => {
                let line = self.line();
                let bar = self.bar.get_or_insert_with(|| new_bar(part.is_some()));
                if let Some(part) = part {
                    bar.set_position((part * STEPS as f64) as u64);
                } else {
                    bar.tick();
                }
                bar.set_message(line);
            }
            Voice::Lines if self.said.elapsed() >= LINE_EVERY => {
                self.said = Instant::now();
                eprintln!("embral: {}", self.line());
            }
            _ => {}
        }
    }

    fn rates(&self) -> (f64, f64) {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        (self.texts as f64 / seconds, self.tokens as f64 / seconds)
    }

    fn line(&self) -> String {
        let (texts, tokens) = self.rates();
        let mut line = format!(
            "{} texts, {} texts/s, {} tokens/s",
            grouped(self.before + self.texts),
            grouped(texts.round() as u64),
            grouped(tokens.round() as u64)
        );
        if let Some(part) = self.part {
            if self.voice == Voice::Lines {
                line.push_str(&format!(", {:.0} %", part * 100.0));
            }
            let from = self.from.unwrap_or(0.0);
            if part > from {
                let left = self.started.elapsed().as_secs_f64() * (1.0 - part) / (part - from);
                line.push_str(&format!(", {} left", span(left)));
            }
        }
        line
    }

    /// The end of the run in one line; nothing where a short run went to standard output.
    pub(crate) fn finish(mut self, to: Option<&str>) {
        self.clear();
        let short = to.is_none() && self.started.elapsed() < PATIENCE;
        if self.voice == Voice::Quiet || short {
            return;
        }
        let to = to.unwrap_or("standard output");
        let (texts, tokens) = self.rates();
        let resumed =
            if self.before > 0 { format!(" after {} of earlier runs", grouped(self.before)) } else { String::new() };
        eprintln!(
            "embral: {} texts{resumed} in {} ({} texts/s, {} tokens/s) -> {to}",
            grouped(self.texts),
            span(self.started.elapsed().as_secs_f64()),
            grouped(texts.round() as u64),
            grouped(tokens.round() as u64)
        );
    }

    /// Takes the bar away, for an error that is to be read.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(measured: bool) -> ProgressBar {
    let (bar, template) = if measured {
        (ProgressBar::new(STEPS), "{bar:24} {percent:>3} %  {msg}")
    } else {
        (ProgressBar::new_spinner(), "{spinner} {msg}")
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed").progress_chars("=> "));
    bar
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A length of time as a person says it.
pub(crate) fn span(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..=9 => format!("{seconds:.1} s"),
        10..=119 => format!("{whole} s"),
        120..=7199 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.25, 30.2, 130.0, 7500.0].map(span), ["0.2 s", "30 s", "2 min 10 s", "2 h 5 min"]);
    }

    #[test]
    fn the_time_left_is_of_this_run_alone() {
        let mut progress = Progress::new(Voice::Quiet, 50);
        progress.begin(Some(0.5));
        progress.started = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        progress.advance(25, 100, Some(0.75));
        let line = progress.line();
        assert!(line.starts_with("75 texts, ") && line.ends_with(", 10 s left"), "{line}");
    }
}
