//! Sequences to what is wanted of them.

use super::{
    Body, ServedModel,
    sequence::{Content, Output, Sequence, Way},
};
use crate::{Embedder, embedder::finite, multi_vector::kept_rows, session::push, token_model};
use embral_tokenize::Encoded;
use embral_types::{Batch, Embeddings, Error, ErrorKind, Result};

impl ServedModel {
    /// Computes sequences, those that want the same in one pass. One answer each, in their order; where a pass fails, each of its
    /// sequences is computed by itself, so that an error is of the one that has it.
    pub fn run(&self, sequences: &[&Sequence]) -> Vec<Result<Output>> {
        let mut outputs: Vec<Option<Result<Output>>> = sequences.iter().map(|s| s.known().map(Ok)).collect();
        let mut rest: Vec<usize> = (0..sequences.len()).filter(|&i| outputs[i].is_none()).collect();
        while let Some(&first) = rest.first() {
            let (same, others): (Vec<usize>, Vec<usize>) =
                rest.into_iter().partition(|&i| i == first || alike(sequences[first], sequences[i]));
            rest = others;
            let group: Vec<&Sequence> = same.iter().map(|&i| sequences[i]).collect();
            let found = match self.pass(&group) {
                Err(_) if group.len() > 1 => group.iter().map(|one| self.alone(one)).collect(),
                Err(error) => vec![Err(error)],
                Ok(found) => found,
            };
            for (i, found) in same.into_iter().zip(found) {
                outputs[i] = Some(found);
            }
        }
        outputs.into_iter().map(|output| output.unwrap_or_else(|| Err(lost()))).collect()
    }

    fn alone(&self, sequence: &Sequence) -> Result<Output> {
        self.pass(&[sequence])?.pop().unwrap_or_else(|| Err(lost()))
    }

    /// One pass over sequences of one way.
    fn pass(&self, sequences: &[&Sequence]) -> Result<Vec<Result<Output>>> {
        let Some(first) = sequences.first() else { return Ok(Vec::new()) };
        match (&self.body, &first.content) {
            (Body::Embedder(embedder), Content::Late { text, chunks, chunking, prompt, .. }) => {
                let chunks = embedder.embed_chunks_of(&[(text, &chunks[..])], chunking, prompt.as_prompt())?;
                Ok(vec![Ok(Output { chunks, ..Output::default() })])
            }
            #[cfg(feature = "remote")]
            (body, Content::Text { prompt, .. }) => {
                let texts: Vec<&str> = sequences.iter().map(|s| s.text()).collect();
                let rows = match body {
                    Body::Embedder(embedder) => embedder.embed_batch_as(&texts, prompt.as_prompt())?,
                    Body::Pool(pool) => pool.embed_on_one(&texts, prompt.as_prompt())?.vectors,
                    _ => return Err(lost()),
                };
                Ok((0..rows.len())
                    .map(|i| Ok(Output { vector: cut(rows.row(i), first.way), ..Output::default() }))
                    .collect())
            }
            _ => {
                let encoded: Vec<&Encoded> = sequences.iter().filter_map(|s| s.encoded()).collect();
                if encoded.len() != sequences.len() {
                    return Err(Error::new(ErrorKind::Unsupported, "the model does not compute such a sequence"));
                }
                let found = self.tokens_pass(first.way, &encoded)?;
                #[cfg(feature = "vector-cache")]
                self.keep(sequences, &found);
                Ok(found)
            }
        }
    }

    fn tokens_pass(&self, way: Way, encoded: &[&Encoded]) -> Result<Vec<Result<Output>>> {
        let mut batch = Batch::default();
        encoded.iter().for_each(|e| push(&mut batch, e));
        match &self.body {
            Body::Embedder(embedder) => dense(embedder, way, &batch),
            #[cfg(feature = "remote")]
            Body::Pool(_) => Err(lost()),
            Body::Reranker(reranker) => {
                let rows = reranker.logits.run(&batch)?;
                Ok(each(&rows, reranker.logits.row_width(), |row| Output {
                    logits: reranker.logit(row),
                    ..Output::default()
                }))
            }
            Body::Classifier(classifier) => {
                let rows = classifier.logits.run(&batch)?;
                Ok(each(&rows, classifier.labels().len(), |row| Output { logits: row.to_vec(), ..Output::default() }))
            }
            Body::MultiVector(model) => {
                let wanted = token_model::Wanted { tokens: true, ..token_model::Wanted::default() };
                let found = model.model.pass(&batch, 0, wanted)?;
                let width = model.dimensions();
                let mut rows = found.tokens.chunks_exact(width);
                let vectors = |e: &&Encoded| {
                    let kept = kept_rows(e, &mut rows, model.skipped(way.query), model.skip_first);
                    finite_row(&kept)?;
                    Ok(Output { multi_vector: Embeddings::new(kept, width), ..Output::default() })
                };
                Ok(encoded.iter().map(vectors).collect())
            }
            Body::Tokens(heads) => {
                let wanted = token_model::Wanted { dense: way.form, sparse: way.sparse, tokens: way.tokens };
                let mut found = heads.model.pass(&batch, way.skip, wanted)?;
                let dims = way.form.map_or(0, |form| form.dims);
                let width = heads.model.width();
                let mut sparse = std::mem::take(&mut found.sparse).into_iter();
                let mut from = 0;
                let output = |(i, e): (usize, &&Encoded)| {
                    let mut output = Output { sparse: sparse.next().unwrap_or_default(), ..Output::default() };
                    if dims > 0 {
                        output.vector = found.dense[i * dims..][..dims].to_vec();
                    }
                    if way.tokens {
                        let rows = &found.tokens[from * width..][..e.ids.len() * width];
                        output.multi_vector = Embeddings::new(heads.kept(e, rows), width);
                    }
                    from += e.ids.len();
                    finite_row(&output.vector)?;
                    finite_row(output.multi_vector.as_slice())?;
                    finite_row(&output.sparse.weights)?;
                    Ok(output)
                };
                Ok(encoded.iter().enumerate().map(output).collect())
            }
        }
    }

    /// Keeps the vectors that are to be kept.
    #[cfg(feature = "vector-cache")]
    fn keep(&self, sequences: &[&Sequence], found: &[Result<Output>]) {
        let Body::Embedder(embedder) = &self.body else { return };
        let Some(cache) = &embedder.cache else { return };
        let (mut keys, mut rows) = (Vec::new(), Vec::new());
        for (sequence, found) in sequences.iter().zip(found) {
            if let (Some(key), Ok(output)) = (sequence.key, found) {
                keys.push(key);
                rows.extend_from_slice(&output.vector);
            }
        }
        if !keys.is_empty() {
            cache.put(&keys, &rows, embedder.dimensions());
        }
    }
}

/// Vectors or rows of an embedding model.
fn dense(embedder: &Embedder, way: Way, batch: &Batch) -> Result<Vec<Result<Output>>> {
    let opened = embedder.local()?;
    let _busy = embedder.session.pool.busy();
    if way.rows {
        let mut rows = Vec::new();
        opened.encoder.token_rows(batch, &mut rows)?;
        let width = rows.len() / batch.tokens().max(1);
        let of = |ends: &[u32]| {
            let rows = &rows[ends[0] as usize * width..ends[1] as usize * width];
            finite_row(rows)?;
            Ok(Output { rows: Embeddings::new(rows.to_vec(), width), ..Output::default() })
        };
        return Ok(batch.offsets().windows(2).map(of).collect());
    }
    let form = way.form.unwrap_or(embedder.form());
    let mut rows = vec![0.0; batch.len() * form.dims];
    opened.encoder.encode_as(batch, way.skip, form, &mut rows)?;
    Ok(each(&rows, form.dims, |row| Output { vector: row.to_vec(), ..Output::default() }))
}

/// One output a row; an error for the rows that are not finite.
fn each(rows: &[f32], width: usize, output: impl Fn(&[f32]) -> Output) -> Vec<Result<Output>> {
    rows.chunks_exact(width).map(|row| finite_row(row).map(|()| output(row))).collect()
}

fn finite_row(row: &[f32]) -> Result<()> {
    finite(row, row.len().max(1), |_| 0)
}

/// The components that are wanted of a vector that a server gave.
#[cfg(feature = "remote")]
fn cut(row: &[f32], way: Way) -> Vec<f32> {
    let Some(form) = way.form else { return row.to_vec() };
    let mut kept = row[..form.dims.min(row.len())].to_vec();
    if form.l2 {
        let length = kept.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        if length > 0.0 && (kept.len() < row.len() || (length - 1.0).abs() > 1e-6) {
            kept.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
    }
    kept
}

/// Whether two sequences may go through one pass.
fn alike(a: &Sequence, b: &Sequence) -> bool {
    a.way == b.way
        && match (&a.content, &b.content) {
            (Content::Tokens(_), Content::Tokens(_)) => true,
            #[cfg(feature = "remote")]
            (Content::Text { prompt, .. }, Content::Text { prompt: other, .. }) => prompt == other,
            _ => false,
        }
}

fn lost() -> Error {
    Error::new(ErrorKind::Unsupported, "the model gave nothing for this text").hint("please report it with the text")
}

impl Sequence {
    fn encoded(&self) -> Option<&Encoded> {
        match &self.content {
            Content::Tokens(encoded) => Some(encoded),
            _ => None,
        }
    }

    #[cfg(feature = "remote")]
    fn text(&self) -> &str {
        match &self.content {
            Content::Text { text, .. } | Content::Late { text, .. } => text,
            Content::Tokens(_) => "",
        }
    }
}
