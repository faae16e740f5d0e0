//! The thread of a queue: it asks the policy for a batch, computes it, and answers.

use super::{
    Shared,
    jobs::{KeptPrompt, Slot, State, refusal},
};
use crate::Prompt;
use embral_scheduler::{Batch, Measured, Next, Refusal, Refused, RequestId};
use embral_types::{Embeddings, Error, ErrorKind, Result, guarded};
use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::Instant,
};

/// Answers to be given once the state is unlocked.
type Answers = Vec<(Arc<Slot>, Result<Embeddings>)>;

/// A text of a batch.
struct Text {
    request: RequestId,
    /// Its place in the call.
    index: usize,
    texts: Arc<[String]>,
    prompt: Arc<KeptPrompt>,
}

impl Text {
    fn text(&self) -> &str {
        &self.texts[self.index]
    }
}

/// What became of the texts of a batch: rows by request and place, and the first error of each request that has one.
#[derive(Default)]
struct Computed {
    rows: Vec<(RequestId, usize, Vec<f32>)>,
    errors: HashMap<RequestId, Error>,
}

/// Works until the queue is closed and empty.
pub(super) fn run(shared: &Shared) {
    while let Some((batch, texts)) = next(shared) {
        let begin = Instant::now();
        let computed = compute(shared, &texts);
        let measured = Measured { took: begin.elapsed(), bytes: None };
        give(finish(shared, &batch, measured, computed));
    }
}

/// Waits for a batch; none once the queue is closed and empty.
fn next(shared: &Shared) -> Option<(Batch, Vec<Text>)> {
    let mut state = shared.lock();
    loop {
        let now = shared.now();
        let turn = state.queue.turn(now);
        let late = || refusal(Refused { cause: Refusal::Expired, retry_after: None });
        let expired: Answers =
            turn.expired.iter().filter_map(|id| state.jobs.remove(id)).map(|job| (job.slot, Err(late()))).collect();
        let unlocked = !expired.is_empty();
        if unlocked {
            drop(state);
            give(expired);
            state = shared.lock();
        }
        match turn.next {
            Next::Run(batch) => {
                let texts = texts(&state, &batch);
                return Some((batch, texts));
            }
            // Something may have come while nobody listened.
            Next::Wait(_) if unlocked => {}
            Next::Wait(_) if state.queue.is_closed() && state.queue.is_idle() => return None,
            Next::Wait(at) => state = wait(shared, state, at.map(|at| at.saturating_sub(now))),
        }
    }
}

fn wait<'a>(shared: &Shared, state: MutexGuard<'a, State>, most: Option<std::time::Duration>) -> MutexGuard<'a, State> {
    match most {
        None => shared.news.wait(state).unwrap_or_else(PoisonError::into_inner),
        Some(most) => shared.news.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0,
    }
}

/// The texts of a batch. Of a call that was taken back in between there is none.
fn texts(state: &State, batch: &Batch) -> Vec<Text> {
    let texts = batch.sequences.iter().filter_map(|sequence| {
        let job = state.jobs.get(&sequence.request)?;
        let (texts, prompt) = (Arc::clone(&job.texts), Arc::clone(&job.prompt));
        Some(Text { request: sequence.request, index: sequence.index, texts, prompt })
    });
    texts.collect()
}

/// Computes the texts of a batch, those of one prompt at once.
fn compute(shared: &Shared, texts: &[Text]) -> Computed {
    let mut computed = Computed::default();
    let mut rest: Vec<&Text> = texts.iter().collect();
    while let Some(first) = rest.first().copied() {
        let (same, others): (Vec<&Text>, Vec<&Text>) = rest.into_iter().partition(|text| text.prompt == first.prompt);
        rest = others;
        compute_together(shared, &same, &mut computed);
    }
    computed
}

/// Computes texts of one prompt. Where that gives an error, each is computed by itself, so that the error is of the call that has the
/// text alone. Where it panics, the calls of all are answered with that.
fn compute_together(shared: &Shared, texts: &[&Text], computed: &mut Computed) {
    let Some(prompt) = texts.first().map(|text| text.prompt.as_prompt()) else { return };
    let all: Vec<&str> = texts.iter().map(|text| text.text()).collect();
    match attempt(shared, &all, prompt) {
        Ok(Ok(rows)) => {
            let rows = texts.iter().enumerate().map(|(at, text)| (text.request, text.index, rows.row(at).to_vec()));
            computed.rows.extend(rows);
        }
        Ok(Err(_)) if texts.len() > 1 => texts.iter().for_each(|text| compute_together(shared, &[text], computed)),
        Ok(Err(error)) => {
            let text = texts[0];
            computed.errors.entry(text.request).or_insert_with(|| at(error, text.index));
        }
        Err(panicked) => {
            let error = || Error::new(ErrorKind::Unsupported, panicked).hint("please report it with the text");
            for text in texts {
                computed.errors.entry(text.request).or_insert_with(error);
            }
        }
    }
}

/// One call of the model, whose answer has a row for each text.
fn attempt(shared: &Shared, texts: &[&str], prompt: Prompt<'_>) -> Result<Result<Embeddings>, &'static str> {
    match guarded(|| (shared.compute)(texts, prompt)) {
        Some(Ok(rows)) if rows.len() != texts.len() || rows.dim() != shared.dimensions => {
            Err("the model gave another number of vectors than it was given texts")
        }
        Some(answer) => Ok(answer),
        None => Err("the computation of this batch panicked"),
    }
}

/// The error of a text that was computed alone, with the place that it has in its call.
fn at(error: Error, index: usize) -> Error {
    match error.message().strip_prefix("text 0") {
        Some(rest) => Error::new(error.kind(), format!("text {index}{rest}")).because(error),
        None => error,
    }
}

/// Tells the policy, and collects the answers of the calls that are complete or have an error.
fn finish(shared: &Shared, batch: &Batch, measured: Measured, computed: Computed) -> Answers {
    let mut state = shared.lock();
    let State { queue, jobs } = &mut *state;
    let dimensions = shared.dimensions;
    for (request, index, row) in computed.rows {
        if let Some(job) = jobs.get_mut(&request) {
            job.rows[index * dimensions..(index + 1) * dimensions].copy_from_slice(&row);
        }
    }
    let mut answers = Answers::new();
    for (request, error) in computed.errors {
        queue.reject(request);
        answers.extend(jobs.remove(&request).map(|job| (job.slot, Err(error))));
    }
    let done = queue.complete(shared.now(), batch.id, measured);
    let done = done.iter().filter_map(|id| jobs.remove(id));
    answers.extend(done.map(|job| (job.slot, Ok(Embeddings::new(job.rows, dimensions)))));
    answers
}

fn give(answers: Answers) {
    for (slot, answer) in answers {
        slot.answer(answer);
    }
}
