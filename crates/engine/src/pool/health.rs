//! The thread that sends probes: to workers that are ejected, and to servers that are idle.

use super::{
    Shared,
    back::{outcome, words},
    rotation::Outcome,
};
use crate::{Prompt, remote::PROBE};
use embral_types::{Error, ErrorKind, Result, guarded};
use std::{
    sync::{Arc, PoisonError},
    thread,
    time::Duration,
};

/// Sends probes when they are due, until the pool is closed. Each is on a thread of its own, so that one that hangs holds up no other and not
/// the end of the pool.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut state = shared.lock();
    while !state.closed {
        let now = shared.now();
        let due = state.rotation.probes(now);
        if due.is_empty() {
            let next = state.rotation.next_probe();
            state = match next {
                None => shared.news.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let wait = at.saturating_sub(now);
                    shared.news.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            continue;
        }
        drop(state);
        for worker in due {
            let probing = Arc::clone(shared);
            let spawned = thread::Builder::new().name("embral-probe".to_owned()).spawn(move || probing.probe(worker));
            if let Err(e) = spawned {
                let message = format!("cannot start the thread of a probe: {e}");
                shared.settle(worker, &Err(Error::new(ErrorKind::Io, message)));
            }
        }
        state = shared.lock();
    }
}

impl Shared {
    /// One probe of a worker, and what follows from it.
    fn probe(&self, worker: usize) {
        let ejected = !self.lock().rotation.seats()[worker].serves(self.now()).0;
        let found = guarded(|| if ejected { self.open(worker) } else { self.check(worker) });
        self.settle(worker, &found.unwrap_or_else(|| Err(Error::new(ErrorKind::Io, "its computation panicked"))));
    }

    /// Finds out what a worker is, and whether it is one of these.
    fn open(&self, worker: usize) -> Result<()> {
        let member = &self.members[worker];
        let found = member.back.open()?;
        self.agreement.join(&member.name, &found)
    }

    /// Asks a worker that serves for the vector of a short text.
    fn check(&self, worker: usize) -> Result<()> {
        let member = &self.members[worker];
        let row = member.back.embed(&[PROBE], Prompt::Default, Duration::MAX)?;
        self.agreement.compare(&member.name, &row)
    }

    fn settle(&self, worker: usize, found: &Result<()>) {
        let outcome = match found {
            Ok(()) => Outcome::Answered { texts: 0 },
            Err(error) => {
                self.members[worker].keep(words(error));
                // There is nothing wrong with the text.
                Some(outcome(error)).filter(|outcome| *outcome != Outcome::Refused).unwrap_or(Outcome::Broken)
            }
        };
        self.lock().rotation.probed(self.now(), worker, outcome);
        self.news.notify_all();
    }
}
