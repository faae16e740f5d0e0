//! What computes a graph.

#[cfg(feature = "ort")]
mod ort;
mod pure;

use crate::signature::Signature;
use embral_types::{Error, ErrorKind, Result};
use pure::Pure;
use std::path::Path;

/// Something that runs one graph.
pub(crate) trait Runtime: Send + Sync {
    /// A name for people: the runtime and the hardware.
    fn describe(&self) -> String;

    /// The shape and the values of the output for one text of `length` tokens, `inputs` being what it is to each input.
    fn compute(&self, inputs: &[Vec<i64>], length: usize) -> Result<(Vec<usize>, Vec<f32>)>;

    /// How many texts may be computed at a time.
    fn at_once(&self) -> usize;
}

/// A graph that something is to run.
pub(crate) struct Wanted<'a> {
    pub(crate) file: &'a Path,
    pub(crate) signature: &'a Signature,
    /// Whether it computes with integers.
    pub(crate) integers: bool,
    pub(crate) threads: usize,
    /// A text, as it is to each input.
    #[cfg(feature = "ort")]
    pub(crate) probe: &'a [Vec<i64>],
}

/// What runs the graph, and what is worth saying about it. `right` is an error where `rten` would compute it wrongly.
#[cfg(not(feature = "ort"))]
pub(crate) fn choose(wanted: &Wanted<'_>, right: Result<()>) -> Result<(Box<dyn Runtime>, Vec<String>)> {
    right?;
    Ok((Box::new(Pure::open(wanted)?), Vec::new()))
}

/// What runs the graph, and what is worth saying about it: the first execution provider that computes it; else, on the CPU, `rten`, unless
/// it cannot or would be wrong, of which `right` is the error; else ONNX Runtime.
#[cfg(feature = "ort")]
pub(crate) fn choose(wanted: &Wanted<'_>, right: Result<()>) -> Result<(Box<dyn Runtime>, Vec<String>)> {
    let library = match ort::Library::find() {
        Ok(library) => library,
        Err(why) => {
            right.map_err(|e| e.hint(why.clone()))?;
            return Ok((Box::new(Pure::open(wanted)?), vec![format!("{why}: the graph runs on the CPU, by rten")]));
        }
    };
    let (found, failures) = library.accelerated(wanted);
    if let Some(found) = found {
        return Ok((Box::new(found), Vec::new()));
    }
    let tried = match &failures[..] {
        [] => "it has none but the CPU's".to_owned(),
        all => all.join("; "),
    };
    let fell = format!("no execution provider of {} computes the graph ({tried})", library.file().display());
    match right.and_then(|()| Pure::open(wanted)) {
        Ok(pure) => Ok((Box::new(pure), vec![format!("{fell}: it runs on the CPU, by rten")])),
        Err(e) => {
            let graph = library.on_cpu(wanted)?;
            let remark = format!("{fell}: it runs on the CPU, by ONNX Runtime, since rten refuses it: {}", e.message());
            Ok((Box::new(graph), vec![remark]))
        }
    }
}

/// What a run failed with.
fn failed(length: usize, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the graph failed on a text of {length} tokens: {what}"))
}
