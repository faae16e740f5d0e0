//! One batch, from the choice of a worker to its rows: tried on others until one answers, one try at a time.
//!
//! A try is over before the next begins: its connection is closed, and what a worker still sends is read by nobody. So no batch has two
//! answers.

use super::{
    Shared,
    back::{failure, is_answer, outcome, words},
    rotation::{Choice, Outcome},
};
use crate::{
    Prompt,
    remote::{
        batches,
        retry::{Fault, Policy, Verdict},
    },
};
use embral_types::{Error, ErrorKind, Result, guarded};
use std::{sync::PoisonError, thread, time::Duration};

/// A batch as its caller gave it.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) texts: &'a [&'a str],
    pub(super) prompt: Prompt<'a>,
    /// Which of the caller's texts the first is.
    pub(super) first: usize,
    /// By the clock of the pool.
    pub(super) deadline: Duration,
}

/// The rows of a batch.
pub(super) struct Rows {
    pub(super) rows: Vec<f32>,
    /// Who answered.
    pub(super) worker: usize,
    /// How often workers were asked.
    pub(super) tries: u32,
}

/// What was tried for a batch.
struct Tries {
    began: Duration,
    /// How often workers were asked.
    count: u32,
    /// Workers that failed it in this round.
    tried: Vec<bool>,
    /// Rounds in which every worker that might be asked failed it.
    rounds: u32,
    /// The last failure of each worker, in words.
    failed: Vec<Option<String>>,
    /// Nobody failed, but was busy.
    busy: bool,
}

/// Why a batch has no worker.
enum Without {
    Spent,
    Deadline,
    Down,
}

impl Shared {
    /// The rows of a batch. Where a text is refused, the batch goes in halves until it is known which.
    pub(super) fn answer(&self, batch: Batch<'_>) -> Result<Rows> {
        let (worker, error) = match self.attempts(batch) {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(refused)) => refused,
            Err(error) => return Err(error),
        };
        let Some(failure) = failure(&error) else { return Err(moved(error, batch.first)) };
        if batch.texts.len() > 1 {
            let (left, right) = batch.texts.split_at(batch.texts.len() / 2);
            let mut answer = self.answer(Batch { texts: left, ..batch })?;
            let rest = self.answer(Batch { texts: right, first: batch.first + left.len(), ..batch })?;
            answer.rows.extend(rest.rows);
            return Ok(Rows { tries: answer.tries + rest.tries, worker: rest.worker, ..answer });
        }
        let message = format!("text {}: {}: {}", batch.first, self.members[worker].name, failure.what);
        let named = Error::new(failure.kind, message);
        let named = match &failure.hint {
            Some(hint) => named.hint(hint.clone()),
            None => named,
        };
        Err(named.because(error))
    }

    /// Asks workers until one answers or refuses a text, or there is none left.
    fn attempts(&self, batch: Batch<'_>) -> Result<Result<Rows, (usize, Error)>> {
        let tokens = batches::tokens(batch.texts);
        let count = self.members.len();
        let mut tries = Tries {
            began: self.now(),
            count: 0,
            tried: vec![false; count],
            rounds: 0,
            failed: vec![None; count],
            busy: true,
        };
        loop {
            let worker = match self.take(tokens, &mut tries, batch.deadline) {
                Ok(worker) => worker,
                Err(without) => return Err(self.unanswered(batch, &tries, &without)),
            };
            tries.count += 1;
            let answer = self.attempt(worker, batch);
            let outcome = match &answer {
                Ok(_) => Outcome::Answered { texts: batch.texts.len() },
                Err(error) => match outcome(error) {
                    Outcome::Failed if tries.failed[worker].is_some() && is_answer(error) => Outcome::Repeated,
                    outcome => outcome,
                },
            };
            if !matches!(outcome, Outcome::Answered { .. } | Outcome::Refused) {
                let error = answer.as_ref().err().map(words).unwrap_or_default();
                self.members[worker].keep(error);
                tries.failed[worker] = Some(error.to_owned());
                tries.tried[worker] = true;
                tries.busy &= matches!(outcome, Outcome::Busy(_));
            }
            self.lock().rotation.finish(self.now(), worker, tokens, outcome);
            self.news.notify_all();
            match (answer, outcome) {
                (Ok(rows), _) => return Ok(Ok(Rows { rows, worker, tries: tries.count })),
                (Err(error), Outcome::Refused) => return Ok(Err((worker, error))),
                (Err(_), _) => {}
            }
        }
    }

    /// One try: a row of the pool's width for each text, or an error.
    fn attempt(&self, worker: usize, Batch { texts, prompt, deadline, .. }: Batch<'_>) -> Result<Vec<f32>> {
        let within = deadline.saturating_sub(self.now());
        let answer = guarded(|| self.members[worker].back.embed(texts, prompt, within));
        let rows = answer.unwrap_or_else(|| Err(Error::new(ErrorKind::Io, "its computation panicked")))?;
        let expected = texts.len() * self.dimensions();
        if rows.len() != expected {
            let message = format!("expected {expected} numbers, found {}", rows.len());
            return Err(Error::new(ErrorKind::Io, message));
        }
        Ok(rows)
    }

    /// Waits for a worker that may be asked, and takes a slot of it.
    fn take(&self, tokens: u64, tries: &mut Tries, deadline: Duration) -> Result<usize, Without> {
        if tries.count > self.options.retries {
            return Err(Without::Spent);
        }
        let mut down_since = None;
        let mut state = self.lock();
        loop {
            let now = self.now();
            if now >= deadline {
                return Err(Without::Deadline);
            }
            let until = match state.rotation.choose(now, tokens, &tries.tried, self.chance()) {
                Choice::Take(worker) => return Ok(worker),
                Choice::Full => deadline,
                Choice::Resting(until) if until >= deadline => return Err(Without::Deadline),
                Choice::Resting(until) => until,
                Choice::Down => {
                    let until = down_since.get_or_insert(now).saturating_add(self.options.patience);
                    if until <= now {
                        return Err(Without::Down);
                    }
                    until.min(deadline)
                }
                Choice::Tried => {
                    drop(state);
                    tries.rounds += 1;
                    tries.tried.fill(false);
                    let policy = Policy { retries: u32::MAX, deadline: deadline.saturating_sub(tries.began) };
                    let elapsed = now.saturating_sub(tries.began);
                    match policy.after(Fault::Connection, None, tries.rounds, elapsed, self.chance()) {
                        Verdict::Again(wait) => thread::sleep(wait),
                        _ => return Err(Without::Deadline),
                    }
                    state = self.lock();
                    continue;
                }
            };
            let wait = until.saturating_sub(now);
            state = self.news.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The error of a batch that nobody answered: every worker, and what it failed by.
    fn unanswered(&self, batch: Batch<'_>, tries: &Tries, without: &Without) -> Error {
        let texts = match batch.texts.len() {
            1 => format!("text {}", batch.first),
            n => format!("texts {} to {}", batch.first, batch.first + n - 1),
        };
        let why = match without {
            Without::Spent => "",
            Without::Deadline => " before the deadline",
            Without::Down => ", all are ejected",
        };
        let seconds = self.now().saturating_sub(tries.began).as_secs_f64();
        let workers = self.members.iter().zip(&tries.failed).map(|(member, failed)| {
            let last = failed.clone().or_else(|| member.last_error());
            format!("{}: {}", member.name, last.as_deref().unwrap_or("not asked"))
        });
        let workers = workers.collect::<Vec<_>>().join("; ");
        let message = format!("{texts}: no worker answered{why} ({} tries in {seconds:.1} s): {workers}", tries.count);
        let late = matches!(without, Without::Deadline) && tries.count == 0;
        if tries.busy && (tries.count > 0 || late) {
            return Error::new(ErrorKind::Overloaded, message).hint("more workers, or fewer calls at a time");
        }
        Error::new(ErrorKind::Network, message).hint("are the servers running, and are these their addresses?")
    }
}

/// The error of a model of this machine, by the place that its text has in the call.
fn moved(error: Error, first: usize) -> Error {
    let rest = error.message().strip_prefix("text ").and_then(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some((rest[..end].parse::<usize>().ok()?, rest[end..].to_owned()))
    });
    match rest {
        Some((index, rest)) if first > 0 => {
            Error::new(error.kind(), format!("text {}{rest}", first + index)).because(error)
        }
        _ => error,
    }
}
