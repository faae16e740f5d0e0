//! How much each key may ask for in a minute.

use embral::queue::Tenant;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What a key may ask for in a minute; none: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) requests: Option<u32>,
    pub(crate) tokens: Option<u32>,
}

/// A bucket that fills with `rate` a second up to a minute's worth.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    fn new(a_minute: u32, now: Duration) -> Self {
        let all = f64::from(a_minute);
        Self { rate: all / 60.0, level: all, at: now }
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(60.0 * self.rate);
        self.at = self.at.max(now);
    }

    /// How long until there is one in it.
    fn wait(&self) -> Option<Duration> {
        (self.level < 1.0).then(|| Duration::from_secs_f64((1.0 - self.level) / self.rate))
    }
}

/// The buckets of all keys.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    buckets: Mutex<HashMap<Tenant, [Option<Bucket>; 2]>>,
}

impl Limiter {
    /// Takes one request of a key; or says when to come again.
    pub(crate) fn request(&self, tenant: Tenant, rates: Rates, now: Duration) -> Result<(), Duration> {
        if rates == Rates::default() {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || [rates.requests, rates.tokens].map(|rate| rate.map(|rate| Bucket::new(rate, now)));
        let both = buckets.entry(tenant).or_insert_with(new);
        both.iter_mut().flatten().for_each(|bucket| bucket.fill(now));
        if let Some(wait) = both.iter().flatten().filter_map(Bucket::wait).max() {
            return Err(wait);
        }
        if let Some(requests) = &mut both[0] {
            requests.level -= 1.0;
        }
        Ok(())
    }

    /// Takes the tokens of a request that was let in. A request may take more than are left: the next one waits for it.
    pub(crate) fn tokens(&self, tenant: Tenant, tokens: usize) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some([_, Some(bucket)]) = buckets.get_mut(&tenant) {
            bucket.level -= tokens as f64;
        }
    }

    /// How long until a key has tokens again, where it has sent as many as it may.
    pub(crate) fn until_tokens(&self, tenant: Tenant, now: Duration) -> Option<Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_mut(&tenant)?[1].as_mut()?;
        bucket.fill(now);
        bucket.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_minute_has_as_many_requests_as_it_may() {
        let (limiter, rates) = (Limiter::default(), Rates { requests: Some(60), tokens: None });
        let ask = |at: Duration| limiter.request(Tenant(1), rates, at);
        assert_eq!((0..100).filter(|_| ask(Duration::ZERO).is_ok()).count(), 60);
        assert!(ask(Duration::ZERO).unwrap_err() <= SECOND);
        assert_eq!((0..100).filter(|_| ask(10 * SECOND).is_ok()).count(), 10);
        // Time that goes backwards fills nothing.
        assert!(ask(SECOND).is_err());
        assert_eq!((0..100).filter(|_| ask(1000 * SECOND).is_ok()).count(), 60);
        assert!(limiter.request(Tenant(2), rates, Duration::ZERO).is_ok());
    }

    #[test]
    fn tokens_that_were_taken_too_many_are_waited_for() {
        let (limiter, rates) = (Limiter::default(), Rates { requests: None, tokens: Some(600) });
        limiter.request(Tenant(1), rates, Duration::ZERO).unwrap();
        assert_eq!(limiter.until_tokens(Tenant(1), Duration::ZERO), None);
        limiter.tokens(Tenant(1), 700);
        assert!(limiter.until_tokens(Tenant(1), Duration::ZERO).unwrap() > 10 * SECOND);
        assert_eq!(limiter.until_tokens(Tenant(2), Duration::ZERO), None);
        let wait = limiter.request(Tenant(1), rates, Duration::ZERO).unwrap_err();
        assert!((10.0..10.2).contains(&wait.as_secs_f64()), "{wait:?}");
        limiter.request(Tenant(1), rates, 11 * SECOND).unwrap();
    }
}
