//! Time as a parameter, so that what waits can be tested without waiting.

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

pub(super) trait Clock: Send + Sync {
    /// Time since some start; never goes back.
    fn now(&self) -> Duration;
    /// What the calendar says, for dates in answers.
    fn date(&self) -> SystemTime;
    /// Comes back when so much time has passed.
    fn sleep(&self, time: Duration);
}

/// The clock of the machine.
pub(super) struct Wall(Instant);

impl Default for Wall {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Wall {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn date(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, time: Duration) {
        if !time.is_zero() {
            thread::sleep(time);
        }
    }
}

/// A clock that goes on only where somebody sleeps.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Still(std::sync::Mutex<Duration>);

#[cfg(test)]
impl Clock for Still {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777) + self.now()
    }

    fn sleep(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}
