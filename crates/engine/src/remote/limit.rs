//! When a request may go, where a server allows so many requests and tokens a minute. No clock in here: the time is an argument.

use std::{collections::VecDeque, time::Duration};

const MINUTE: Duration = Duration::from_secs(60);

/// What went or will go within a minute. No 60 seconds, wherever they begin, hold more than the limits; a request of more tokens than
/// the limit goes alone.
#[derive(Debug)]
pub(super) struct RateLimit {
    requests: Option<u64>,
    tokens: Option<u64>,
    /// By their start, which never decreases.
    going: VecDeque<Reservation>,
    /// Tokens of `going`.
    sum: u64,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reservation {
    number: u64,
    start: Duration,
    tokens: u64,
}

/// A place in the order, and when it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    number: u64,
    pub(super) start: Duration,
}

impl RateLimit {
    pub(super) fn new(requests_per_minute: Option<u64>, tokens_per_minute: Option<u64>) -> Self {
        Self { requests: requests_per_minute, tokens: tokens_per_minute, going: VecDeque::new(), sum: 0, number: 0 }
    }

    /// The earliest start, `now` or later, of a request of about `tokens` tokens; it counts from then on.
    pub(super) fn reserve(&mut self, now: Duration, tokens: u64) -> Slot {
        let mut start = now.max(self.going.back().map_or(Duration::ZERO, |last| last.start));
        loop {
            while let Some(first) = self.going.front().filter(|first| first.start + MINUTE <= start) {
                self.sum -= first.tokens;
                self.going.pop_front();
            }
            let room = self.requests.is_none_or(|most| (self.going.len() as u64) < most)
                && self.tokens.is_none_or(|most| self.sum.saturating_add(tokens) <= most);
            match self.going.front() {
                Some(first) if !room => start = first.start + MINUTE,
                _ => break,
            }
        }
        self.number += 1;
        if self.requests.is_some() || self.tokens.is_some() {
            self.sum = self.sum.saturating_add(tokens);
            self.going.push_back(Reservation { number: self.number, start, tokens });
        }
        Slot { number: self.number, start }
    }

    /// The tokens that a request did cost, in the place of what they were thought to be.
    pub(super) fn settle(&mut self, slot: Slot, tokens: u64) {
        if let Some(found) = self.going.iter_mut().find(|r| r.number == slot.number) {
            self.sum = self.sum - found.tokens + tokens;
            found.tokens = tokens;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_minute_holds_more_than_the_limits(
            arrivals in proptest::collection::vec((0_u64..20_000, 0_u64..400), 1..120),
            requests in proptest::option::of(1_u64..20), tokens in proptest::option::of(1_u64..1000),
        ) {
            let mut limit = RateLimit::new(requests, tokens);
            let (mut now, mut started): (u64, Vec<(Duration, u64)>) = (0, Vec::new());
            for (later, cost) in arrivals {
                now += later;
                let slot = limit.reserve(Duration::from_millis(now), cost);
                prop_assert!(slot.start >= Duration::from_millis(now));
                started.push((slot.start, cost));
            }
            prop_assert!(started.is_sorted_by_key(|(start, _)| *start));
            for (i, (begin, _)) in started.iter().enumerate() {
                let minute: Vec<u64> =
                    started[i..].iter().take_while(|(s, _)| *s < *begin + MINUTE).map(|(_, cost)| *cost).collect();
                prop_assert!(requests.is_none_or(|most| minute.len() as u64 <= most));
                prop_assert!(tokens.is_none_or(|most| minute.iter().sum::<u64>() <= most || minute.len() == 1));
            }
        }

        #[test]
        fn nothing_waits_without_need(count in 1_u64..50, requests in 1_u64..50) {
            let mut limit = RateLimit::new(Some(requests), None);
            for i in 0..count {
                prop_assert_eq!(limit.reserve(Duration::ZERO, 1).start, MINUTE * u32::try_from(i / requests).unwrap());
            }
            let mut free = RateLimit::new(None, None);
            prop_assert!((0..count).all(|i| free.reserve(Duration::from_millis(i), 1 << 40).start == Duration::from_millis(i)));
        }
    }

    #[test]
    fn what_a_request_did_cost_counts() {
        let mut limit = RateLimit::new(None, Some(100));
        let first = limit.reserve(Duration::ZERO, 10);
        limit.settle(first, 95);
        assert_eq!(limit.reserve(Duration::ZERO, 5).start, Duration::ZERO);
        assert_eq!(limit.reserve(Duration::ZERO, 5).start, MINUTE);
    }

    #[test]
    fn what_is_larger_than_the_limit_goes_alone() {
        let mut limit = RateLimit::new(None, Some(100));
        assert_eq!(limit.reserve(Duration::ZERO, 500).start, Duration::ZERO);
        assert_eq!(limit.reserve(Duration::ZERO, 1).start, MINUTE);
        assert_eq!(limit.reserve(Duration::ZERO, 500).start, 2 * MINUTE);
    }
}
