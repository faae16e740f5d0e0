//! How a long run says where it is.

/// Told of the stages of a run; a terminal shows a bar, a log prints lines, `()` is silent.
pub trait Progress {
    /// A stage begins; it takes `steps` steps of `unit`.
    fn begin(&mut self, stage: &str, steps: u64, unit: &str);
    /// So many steps of the stage are done.
    fn advance(&mut self, steps: u64);
    /// Something worth a line, such as the loss of an epoch.
    fn say(&mut self, line: &str);
}

impl Progress for () {
    fn begin(&mut self, _stage: &str, _steps: u64, _unit: &str) {}
    fn advance(&mut self, _steps: u64) {}
    fn say(&mut self, _line: &str) {}
}
