//! Whether a request that failed is tried again, and when: exponential backoff with full jitter, never before the server's
//! Retry-After, never past the deadline. No clock and no chance in here: both are arguments.

use std::time::{Duration, SystemTime};

/// How long is waited at most before the second try, and at which length waiting ends to grow.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// What a try came to, as far as trying again depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An answer with this status.
    Status(u16),
    /// The connection did not come about or broke.
    Connection,
    /// No answer in time.
    Timeout,
    /// An answer that another try would only repeat.
    Final,
}

impl Fault {
    /// Whether it may go away by itself.
    pub(crate) fn passes(self) -> bool {
        match self {
            // 425 too early, 529 overloaded (of some clouds); 501 and 505 stay what they are.
            Self::Status(status) => matches!(status, 408 | 409 | 425 | 429 | 500 | 502..=504 | 507 | 520..=529),
            Self::Connection | Self::Timeout => true,
            Self::Final => false,
        }
    }
}

/// What to do about a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Wait so long, then try again.
    Again(Duration),
    /// It will not go away.
    Final,
    /// That were enough tries.
    Spent,
    /// The next try would begin past the deadline: the server asks to wait so long.
    TooLate(Duration),
}

/// The policy of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Tries after the first.
    pub(crate) retries: u32,
    /// From the first try to the start of the last.
    pub(crate) deadline: Duration,
}

impl Policy {
    /// Decides after try number `tries` (from 1), `elapsed` after the first began. `chance` is drawn evenly from [0, 1).
    ///
    /// The wait is drawn evenly from zero to `FIRST 2^(tries-1)`, `LONGEST` at most, and comes on top of what the server asks for, so
    /// that clients that were refused together do not come back together.
    pub(crate) fn after(
        &self,
        fault: Fault,
        retry_after: Option<Duration>,
        tries: u32,
        elapsed: Duration,
        chance: f64,
    ) -> Verdict {
        if !fault.passes() {
            return Verdict::Final;
        }
        if tries > self.retries {
            return Verdict::Spent;
        }
        let ceiling = FIRST.saturating_mul(1_u32.checked_shl(tries - 1).unwrap_or(u32::MAX)).min(LONGEST);
        let wait = retry_after.unwrap_or_default().saturating_add(ceiling.mul_f64(chance.clamp(0.0, 1.0)));
        if elapsed.saturating_add(wait) > self.deadline { Verdict::TooLate(wait) } else { Verdict::Again(wait) }
    }
}

/// The value of a Retry-After header: seconds, or an HTTP date, of which the past is now.
pub(super) fn retry_after(value: &str, date: SystemTime) -> Option<Duration> {
    let value = value.trim();
    // Some servers give fractions, which the standard does not know.
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let then = httpdate::parse_http_date(value).ok()?;
    Some(then.duration_since(date).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault() -> impl Strategy<Value = Fault> {
        prop_oneof![
            (100_u16..600).prop_map(Fault::Status),
            Just(Fault::Connection),
            Just(Fault::Timeout),
            Just(Fault::Final)
        ]
    }

    proptest! {
        #[test]
        fn waits_are_bounded_and_honour_the_server(
            fault in fault(), asked in proptest::option::of(0_u64..100_000), tries in 1_u32..80, elapsed in 0_u64..1_000_000,
            retries in 0_u32..20, deadline in 0_u64..1_000_000, chance in 0.0..1.0_f64,
        ) {
            let asked = asked.map(Duration::from_millis);
            let (elapsed, deadline) = (Duration::from_millis(elapsed), Duration::from_millis(deadline));
            let policy = Policy { retries, deadline };
            match policy.after(fault, asked, tries, elapsed, chance) {
                Verdict::Again(wait) => {
                    prop_assert!(fault.passes() && tries <= retries);
                    prop_assert!(wait >= asked.unwrap_or_default());
                    prop_assert!(wait <= asked.unwrap_or_default() + LONGEST);
                    prop_assert!(elapsed + wait <= deadline);
                }
                Verdict::Final => prop_assert!(!fault.passes()),
                Verdict::Spent => prop_assert!(fault.passes() && tries > retries),
                Verdict::TooLate(wait) => prop_assert!(elapsed + wait > deadline && tries <= retries),
            }
        }

        #[test]
        fn a_server_that_fails_for_ever_is_tried_so_often_and_no_later_than_the_deadline(
            retries in 0_u32..12, deadline in 0_u64..100_000, chances in proptest::collection::vec(0.0..1.0_f64, 12),
        ) {
            let policy = Policy { retries, deadline: Duration::from_millis(deadline) };
            let (mut now, mut tries) = (Duration::ZERO, 1);
            while let Verdict::Again(wait) = policy.after(Fault::Status(503), None, tries, now, chances[tries as usize - 1]) {
                now += wait;
                tries += 1;
            }
            prop_assert!(tries <= retries + 1 && now <= policy.deadline);
        }

        #[test]
        fn any_header_is_read_or_passed_over(value in ".{0,40}") {
            let _ = retry_after(&value, SystemTime::UNIX_EPOCH);
        }
    }

    #[test]
    fn the_ceiling_doubles_and_chance_is_the_whole_of_it() {
        let policy = Policy { retries: 99, deadline: Duration::MAX };
        let wait = |tries, chance| match policy.after(Fault::Timeout, None, tries, Duration::ZERO, chance) {
            Verdict::Again(wait) => wait.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!([1, 2, 3, 6, 7, 40].map(|tries| wait(tries, 1.0)), [500, 1000, 2000, 16_000, 30_000, 30_000]);
        assert_eq!([1, 2, 40].map(|tries| wait(tries, 0.0)), [0, 0, 0]);
        assert_eq!(wait(1, 0.5), 250);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [408, 409, 425, 429, 500, 502, 503, 504, 529] {
            assert!(Fault::Status(status).passes(), "{status}");
        }
        for status in [200, 301, 307, 400, 401, 403, 404, 405, 413, 422, 424, 501, 505] {
            assert!(!Fault::Status(status).passes(), "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let of = |value: &str| retry_after(value, now).map(|d| d.as_secs_f64());
        assert_eq!(of("120"), Some(120.0));
        assert_eq!(of(" 1.5 "), Some(1.5));
        assert_eq!(of("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30.0));
        assert_eq!(of("Sunday, 06-Nov-94 08:50:07 GMT"), Some(30.0));
        assert_eq!(of("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0.0));
        for bad in ["", "soon", "-5", "NaN", "1e300", "inf"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
