//! A graph with its inputs and its output.

use crate::{
    Facts, external, integers, nesting,
    runtime::{self, Runtime},
    signature::Signature,
};
use embral_types::{Error, ErrorKind, Result, guarded};
use rten_onnx::onnx::{GraphProto, ModelProto};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Tokens of the run that shows what the output is.
const PROBE: usize = 3;

/// What a graph gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One row a token, `[tokens, width]`: to be pooled.
    Rows,
    /// One row a text, `[width]`.
    Vectors,
}

/// Which output is read where a graph has both kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Rows of tokens: it is known how they are pooled.
    Rows,
    /// The vector of the text.
    Vectors,
}

/// An exported embedding model.
pub struct Graph {
    file: PathBuf,
    signature: Signature,
    runtime: Box<dyn Runtime>,
    remarks: Vec<String>,
    facts: Facts,
    kind: Kind,
    width: usize,
}

impl Graph {
    /// Reads a graph, with weights beside it where it has them there, and runs it once.
    ///
    /// # Errors
    /// Where the file is no ONNX graph, has an operator that the runtime does not have, an input that is not known, no output that is
    /// an embedding, or integers that the runtime would multiply wrongly.
    pub fn open(file: &Path, wish: Wish, threads: usize) -> Result<Self> {
        Self::read(file, wish, threads).map_err(|e| e.in_file(file))
    }

    fn read(file: &Path, wish: Wish, threads: usize) -> Result<Self> {
        let bytes = fs::read(file).map_err(|e| Error::io("cannot read", file, e))?;
        let model = parse(&bytes)?;
        drop(bytes);
        let graph = of_model(&model)?;
        let signature = Signature::of(graph, wish)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        // The runtime makes room for as many bytes as a graph says a file has.
        external::check(graph, folder)?;
        let facts = Facts::of(&model, graph, Some(folder))?;
        let right = integers::check(graph);
        drop(model);
        let probe: Vec<Vec<i64>> = signature.inputs.iter().map(|input| input.of(&[0; PROBE])).collect();
        let wanted = runtime::Wanted {
            file,
            signature: &signature,
            integers: facts.integers,
            threads,
            #[cfg(feature = "ort")]
            probe: &probe,
        };
        let (runtime, remarks) = runtime::choose(&wanted, right)?;
        let (kind, width) = output(&*runtime, &signature, &probe)?;
        Ok(Self { file: file.to_owned(), signature, runtime, remarks, facts, kind, width })
    }

    /// What the output is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Components of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The name of the output.
    pub fn output(&self) -> &str {
        &self.signature.output
    }

    /// The names of the inputs, in the order of the graph.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.signature.inputs.iter().map(|input| &*input.name)
    }

    /// What it is made of.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What it runs on: the runtime and the hardware.
    pub fn describe(&self) -> String {
        self.runtime.describe()
    }

    /// What is worth saying once about what it runs on, each a line.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Runs the texts `ids[offsets[i]..offsets[i + 1]]`, each by itself; `out` takes `width` values for each token or each text, as
    /// [`Graph::kind`] says. A text without tokens has a row of zeros.
    ///
    /// # Errors
    /// Where the graph fails on them.
    ///
    /// # Panics
    /// Where `out` has not just that length.
    pub fn run(&self, ids: &[u32], offsets: &[u32], out: &mut [f32]) -> Result<()> {
        let texts = offsets.len().saturating_sub(1);
        let rows = if self.kind == Kind::Rows { ids.len() } else { texts };
        assert_eq!(out.len(), rows * self.width, "out is [{rows}, {}]", self.width);
        let mut rest = out;
        let mut work = Vec::with_capacity(texts);
        for ends in offsets.windows(2) {
            let ids = &ids[ends[0] as usize..ends[1] as usize];
            let rows = if self.kind == Kind::Rows { ids.len() } else { 1 };
            let (own, others) = rest.split_at_mut(rows * self.width);
            rest = others;
            if ids.is_empty() {
                own.fill(0.0);
            } else {
                work.push((ids, own));
            }
        }
        let workers = self.runtime.at_once().min(work.len());
        if workers < 2 {
            return work.into_iter().try_for_each(|(ids, own)| self.one(ids, own));
        }
        // The longest first, so that no thread is left with one at the end.
        work.sort_by_key(|(ids, _)| std::cmp::Reverse(ids.len()));
        let work: Vec<Mutex<_>> = work.into_iter().map(|item| Mutex::new(Some(item))).collect();
        let next = AtomicUsize::new(0);
        let worker = || {
            while let Some(item) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                let item = item.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some((ids, own)) = item {
                    self.one(ids, own)?;
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(worker)).collect();
            let own = worker();
            others.into_iter().fold(own, |result, other| {
                let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result.and(other)
            })
        })
    }

    fn one(&self, ids: &[u32], out: &mut [f32]) -> Result<()> {
        let inputs: Vec<Vec<i64>> = self.signature.inputs.iter().map(|input| input.of(ids)).collect();
        let (shape, values) = self.runtime.compute(&inputs, ids.len()).map_err(|e| e.in_file(&self.file))?;
        if values.len() != out.len() {
            let rows = out.len() / self.width;
            let message = format!(
                "output {:?}: expected {rows} rows of {} for a text of {} tokens, found the shape {shape:?}",
                self.signature.output,
                self.width,
                ids.len(),
            );
            return Err(Error::new(ErrorKind::Mismatch, message).in_file(&self.file));
        }
        out.copy_from_slice(&values);
        Ok(())
    }
}

impl Facts {
    /// Of the bytes of an ONNX file, without loading or running what is in it.
    ///
    /// # Errors
    /// Where they are no ONNX file, or the graph is no embedding model, as far as its inputs, outputs and integers say.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let model = parse(bytes)?;
        let graph = of_model(&model)?;
        Signature::of(graph, Wish::Rows)?;
        integers::check(graph)?;
        Self::of(&model, graph, None)
    }
}

fn of_model(model: &ModelProto) -> Result<&GraphProto> {
    model.graph.as_ref().ok_or_else(|| malformed("expected a graph, found a model without one"))
}

/// The bytes of an ONNX file; hostile ones are an error, whatever the parser does with them.
fn parse(bytes: &[u8]) -> Result<ModelProto> {
    if !nesting::is_shallow(bytes) {
        return Err(malformed("expected an ONNX graph, found bytes that are none"));
    }
    guarded(|| ModelProto::parse_buf(bytes))
        .ok_or_else(|| malformed("expected an ONNX graph, found bytes that are none"))?
        .map_err(|e| malformed(format!("expected an ONNX graph: {e}")))
}

/// The kind and the width of the output, out of a run.
fn output(runtime: &dyn Runtime, signature: &Signature, probe: &[Vec<i64>]) -> Result<(Kind, usize)> {
    match runtime.compute(probe, PROBE)?.0[..] {
        [1, width] if width > 0 => Ok((Kind::Vectors, width)),
        [1, PROBE, width] if width > 0 => Ok((Kind::Rows, width)),
        ref shape => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "output {:?}: expected [texts, width] or [texts, tokens, width], found {shape:?} for 1 text of {PROBE} tokens",
                signature.output
            ),
        )),
    }
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({}, {:?} of {})", self.file.display(), self.kind, self.width)
    }
}
