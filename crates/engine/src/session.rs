//! One call of a model: its texts in windows that are tokenised ahead, put together to batches, batch by batch to what computes.

use crate::{
    Profile,
    encoder::Stages,
    windows::{self, Window},
};
use embral_kernels::Pool;
use embral_tokenize::Encoded;
use embral_types::{Batch, Error, ErrorKind, Result};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The ids of a short text that is run once while opening; of none where too long a text is an error and no room is left for it.
pub(crate) fn warm_up_text(encode: impl Fn(&str) -> Result<Encoded>) -> Result<Encoded> {
    match encode("warm up") {
        Err(e) if e.kind() == ErrorKind::TooLong => encode(""),
        encoded => encoded,
    }
}

/// What the calls of one opened model share.
pub(crate) struct Session {
    pub(crate) pool: Arc<Pool>,
    batch_tokens: usize,
    profile: Mutex<Profile>,
}

/// The texts of a call, whatever they are made of.
pub(crate) struct Texts<'a> {
    /// How many.
    pub(crate) count: usize,
    /// The bytes of each.
    pub(crate) bytes: &'a dyn Fn(usize) -> usize,
    /// The ids of each.
    pub(crate) encode: &'a (dyn Fn(usize) -> Result<Encoded> + Sync),
}

/// Some texts of a call, next to each other, as one batch.
pub(crate) struct Work<'a> {
    /// Their tokens.
    pub(crate) batch: &'a Batch,
    /// The same by text.
    pub(crate) encoded: &'a [Encoded],
    /// The index of the first of them.
    pub(crate) first: usize,
}

/// Which of the caller's texts the text of an index is: those whose vectors are kept are left out of a call.
pub(crate) type Place<'a> = &'a (dyn Fn(usize) -> usize + Sync);

/// A call under way.
struct Call<'a> {
    /// The ids of the texts from `done` on, as far as they are tokenised.
    ids: Vec<Encoded>,
    /// The texts that are computed.
    done: usize,
    compute: &'a mut dyn FnMut(Work<'_>) -> Result<Stages>,
    profile: &'a mut Profile,
}

impl Session {
    pub(crate) fn new(threads: Option<usize>, batch_tokens: usize) -> Self {
        Self { pool: Pool::shared(threads), batch_tokens, profile: Mutex::new(Profile::default()) }
    }

    /// Runs all texts through `compute`, in order, about `batch_tokens` at a time.
    pub(crate) fn run(&self, texts: &Texts<'_>, compute: &mut dyn FnMut(Work<'_>) -> Result<Stages>) -> Result<()> {
        let start = Instant::now();
        let mut profile = Profile { texts: texts.count, ..Profile::default() };
        self.run_into(texts, &|i| i, &mut profile, compute)?;
        self.keep(profile, start);
        Ok(())
    }

    /// As [`Session::run`], as a part of a call: errors name texts by `place`, and `profile` is kept by who began the call.
    pub(crate) fn run_into(
        &self,
        texts: &Texts<'_>,
        place: Place<'_>,
        profile: &mut Profile,
        compute: &mut dyn FnMut(Work<'_>) -> Result<Stages>,
    ) -> Result<()> {
        let mut call = Call { ids: Vec::new(), done: 0, compute, profile };
        let _busy = self.pool.busy();
        let encode = |index: usize| (texts.encode)(index).map_err(|e| of_text(e, place(index)));
        let ranges = windows::ranges(texts.count, texts.bytes, self.batch_tokens);
        let mut windows = ranges.map(|range| Window::new(range, &encode));
        let mut next = windows.next();
        if let Some(first) = &next {
            let start = Instant::now();
            first.run(&self.pool);
            call.profile.tokenize_ms += milliseconds(start.elapsed());
        }
        while let Some(window) = next {
            let (mut ids, work) = window.finish()?;
            call.profile.tokenize_work_ms += milliseconds(work);
            call.profile.truncated += ids.iter().filter(|e| e.truncated).count();
            call.ids.append(&mut ids);
            next = windows.next();
            match &next {
                Some(next) => {
                    let waited = next.run_during(&self.pool, || self.batches(&mut call, false))?;
                    call.profile.tokenize_ms += milliseconds(waited);
                }
                None => self.batches(&mut call, true)?,
            }
        }
        Ok(())
    }

    /// Closes the profile of a call that began at `start`, and keeps it.
    pub(crate) fn keep(&self, mut profile: Profile, start: Instant) {
        profile.close(milliseconds(start.elapsed()));
        *self.profile.lock().unwrap_or_else(PoisonError::into_inner) = profile;
    }

    /// Tokens computed together.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// Where the time of the last finished call went.
    pub(crate) fn profile(&self) -> Profile {
        *self.profile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of texts, all at once.
    pub(crate) fn encode_all(&self, texts: &Texts<'_>) -> Result<Vec<Encoded>> {
        let encode = |index: usize| (texts.encode)(index).map_err(|e| of_text(e, index));
        let window = Window::new(0..texts.count, &encode);
        window.run(&self.pool);
        Ok(window.finish()?.0)
    }

    /// Computes the texts whose ids are there, batch by batch. Unless they are the `last`, a rest of less than half a batch is left
    /// for a batch with those that follow.
    fn batches(&self, call: &mut Call<'_>, last: bool) -> Result<()> {
        let Call { ids, done: first, compute, profile } = call;
        let mut batch = Batch::default();
        let mut done = 0;
        while done < ids.len() {
            let start = Instant::now();
            batch.clear();
            for e in &ids[done..] {
                if !batch.is_empty() && batch.tokens() + e.ids.len() > self.batch_tokens {
                    break;
                }
                push(&mut batch, e);
            }
            profile.pack_ms += milliseconds(start.elapsed());
            let rest = done + batch.len() == ids.len() && batch.tokens() < self.batch_tokens / 2;
            // The first batch is computed in any case: there would be nothing to do while the next texts are tokenised.
            if rest && !last && done > 0 {
                break;
            }
            profile.tokens += batch.tokens();
            let encoded = &ids[done..done + batch.len()];
            let stages = compute(Work { batch: &batch, encoded, first: *first + done })?;
            profile.inference_ms += milliseconds(stages.inference);
            profile.pool_ms += milliseconds(stages.pool);
            profile.normalize_ms += milliseconds(stages.finish);
            done += batch.len();
        }
        ids.drain(..done);
        *first += done;
        Ok(())
    }
}

/// Appends the ids of one text to a batch.
pub(crate) fn push(batch: &mut Batch, encoded: &Encoded) {
    match encoded.seen {
        Some(seen) => batch.push_seen(&encoded.ids, seen),
        None => batch.push_segments(&encoded.ids, &encoded.segments),
    }
}

/// The error with the index of the text that it is about.
fn of_text(error: Error, index: usize) -> Error {
    let message = format!("text {index}: {}", error.message());
    Error::new(error.kind(), message).because(error)
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
