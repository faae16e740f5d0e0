//! Saying how a download goes: a bar a file at a terminal, a line a file in a log.

use embral::store::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// The file under way.
#[derive(Default)]
pub(crate) struct Download(Option<ProgressBar>);

impl Progress for Download {
    fn begin(&mut self, file: &str, bytes: u64) {
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(bytes);
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
            let template = "{bar:24} {percent:>3} %  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {msg}";
            let style = ProgressStyle::with_template(template).expect("the template is well-formed");
            bar.set_style(style.progress_chars("=> "));
            bar.set_message(file.to_owned());
            self.0 = Some(bar);
        } else {
            eprintln!("embral: fetching {file} ({:.1} MB)", bytes as f64 / 1e6);
        }
    }

    fn advance(&mut self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
