//! A thread of a dispatcher: it asks the policy for a batch, computes it, and answers.

use super::{
    dispatcher::{BatchReport, ModelId, Shared, State, Work, refusal},
    future::{Answer, Slot},
};
use embral_scheduler::{Batch, Measured, ModelNext, Refusal, Refused, RequestId};
use embral_types::{Error, ErrorKind, Result, guarded};
use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Answers to be given once the state is unlocked.
type Answers<O> = Vec<(Arc<Slot<O>>, Result<Answer<O>>)>;

/// A batch to compute.
struct Due<W: Work> {
    model: ModelId,
    work: Arc<W>,
    batch: Batch,
    items: Vec<Item<W>>,
}

/// An item of a batch.
struct Item<W: Work> {
    request: RequestId,
    /// Its place in the request.
    index: usize,
    items: Arc<[W::Item]>,
}

/// What became of the items of a batch: outputs by request and place, and the first error of each request that has one.
struct Computed<O> {
    outputs: Vec<(RequestId, usize, O)>,
    errors: HashMap<RequestId, Error>,
}

/// Works until the dispatcher is closed and empty.
pub(super) fn run<W: Work>(shared: &Shared<W>) {
    while let Some(due) = next(shared) {
        let begin = Instant::now();
        let computed = compute(&due);
        let took = begin.elapsed();
        give(finish(shared, &due, took, computed));
        if let Some(observer) = &shared.observer {
            let shape = due.batch.shape;
            observer(&BatchReport {
                model: due.model,
                items: shape.sequences,
                tokens: shape.tokens,
                reason: due.batch.reason,
                took,
            });
        }
    }
    // Another thread may wait for what this one ran.
    shared.news.notify_all();
}

/// Waits for a batch; none once the dispatcher is closed and empty.
fn next<W: Work>(shared: &Shared<W>) -> Option<Due<W>> {
    let mut state = shared.lock();
    loop {
        let now = shared.now();
        state.look_at_memory(now);
        let turn = state.scheduler.turn(now);
        let late = || refusal(Refused { cause: Refusal::Expired, retry_after: None });
        let expired: Answers<W::Output> =
            turn.expired.iter().filter_map(|id| state.jobs.remove(id)).map(|job| (job.slot, Err(late()))).collect();
        let unlocked = !expired.is_empty();
        if unlocked {
            drop(state);
            give(expired);
            state = shared.lock();
        }
        match turn.next {
            ModelNext::Run(model, batch) => {
                if let Some(due) = due(&mut state, model, batch, now) {
                    drop(state);
                    // There may be more to do, and others to do it.
                    shared.news.notify_one();
                    return Some(due);
                }
            }
            // Something may have come while nobody listened.
            ModelNext::Wait(_) if unlocked => {}
            ModelNext::Wait(_) if state.closed && state.is_idle() => return None,
            ModelNext::Wait(at) => state = wait(shared, state, at.map(|at| at.saturating_sub(now))),
        }
    }
}

fn wait<'a, W: Work>(
    shared: &Shared<W>,
    state: MutexGuard<'a, State<W>>,
    most: Option<Duration>,
) -> MutexGuard<'a, State<W>> {
    match most {
        None => shared.news.wait(state).unwrap_or_else(PoisonError::into_inner),
        Some(most) => shared.news.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0,
    }
}

/// The items of a batch. Of a request that was taken back in between there is none.
fn due<W: Work>(state: &mut State<W>, model: ModelId, batch: Batch, now: Duration) -> Option<Due<W>> {
    let work = Arc::clone(state.models.get(&model)?);
    let mut items = Vec::with_capacity(batch.sequences.len());
    for sequence in &batch.sequences {
        if let Some(job) = state.jobs.get_mut(&(model, sequence.request)) {
            job.began.get_or_insert(now);
            items.push(Item { request: sequence.request, index: sequence.index, items: Arc::clone(&job.items) });
        }
    }
    Some(Due { model, work, batch, items })
}

/// Computes the items of a batch. Where that panics, the requests of all are answered with that.
fn compute<W: Work>(due: &Due<W>) -> Computed<W::Output> {
    let items: Vec<&W::Item> = due.items.iter().map(|item| &item.items[item.index]).collect();
    let mut computed = Computed { outputs: Vec::with_capacity(items.len()), errors: HashMap::new() };
    let fault = match guarded(|| due.work.run(&items)) {
        Some(answers) if answers.len() == items.len() => {
            for (item, answer) in due.items.iter().zip(answers) {
                match answer {
                    Ok(output) => computed.outputs.push((item.request, item.index, output)),
                    Err(error) => {
                        computed.errors.entry(item.request).or_insert_with(|| at(error, item.index));
                    }
                }
            }
            return computed;
        }
        Some(_) => "the model gave another number of answers than it was given texts",
        None => "the computation of this batch panicked",
    };
    for item in &due.items {
        let error = || Error::new(ErrorKind::Unsupported, fault).hint("please report it with the text");
        computed.errors.entry(item.request).or_insert_with(error);
    }
    computed
}

/// The error of a text that was computed alone, with the place that it has in its request.
fn at(error: Error, index: usize) -> Error {
    match error.message().strip_prefix("text 0") {
        Some(rest) => Error::new(error.kind(), format!("text {index}{rest}")).because(error),
        None => error,
    }
}

/// Tells the policy, and collects the answers of the requests that are complete or have an error.
fn finish<W: Work>(
    shared: &Shared<W>,
    due: &Due<W>,
    took: Duration,
    computed: Computed<W::Output>,
) -> Answers<W::Output> {
    let mut state = shared.lock();
    let now = shared.now();
    let State { scheduler, jobs, .. } = &mut *state;
    let mut answers = Answers::new();
    for (request, index, output) in computed.outputs {
        if let Some(job) = jobs.get_mut(&(due.model, request)) {
            job.outputs[index] = Some(output);
        }
    }
    let Some(queue) = scheduler.get_mut(&due.model) else { return answers };
    for (request, error) in computed.errors {
        queue.reject(request);
        answers.extend(jobs.remove(&(due.model, request)).map(|job| (job.slot, Err(error))));
    }
    for id in queue.complete(now, due.batch.id, Measured { took, bytes: None }) {
        let Some(job) = jobs.remove(&(due.model, id)) else { continue };
        let began = job.began.unwrap_or(now);
        let outputs: Option<Vec<W::Output>> = job.outputs.into_iter().collect();
        let (queued, computed) = (began.saturating_sub(job.came), now.saturating_sub(began));
        let answer = outputs.map(|outputs| Answer { outputs, queued, computed });
        let lost = || Error::new(ErrorKind::Unsupported, "an answer was lost").hint("please report it");
        answers.push((job.slot, answer.ok_or_else(lost)));
    }
    answers
}

fn give<O>(answers: Answers<O>) {
    for (slot, answer) in answers {
        slot.answer(answer);
    }
}
