//! Who asks, and how urgently: what the headers of a request say, whatever its dialect.

use crate::failure::{Failure, Kind};
use axum::http::HeaderMap;
use embral::queue::{Priority, Tenant};
use std::time::Duration;

/// Header of the urgency: `high`, `normal` or `low`.
pub(crate) const PRIORITY: &str = "x-embral-priority";
/// Header of the milliseconds after which the answer is of no more use.
pub(crate) const TIMEOUT: &str = "x-embral-timeout-ms";

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    pub(crate) priority: Priority,
    /// How long the answer may take.
    pub(crate) within: Duration,
}

impl Caller {
    /// What the headers say; `most` is the longest that a request may take.
    pub(crate) fn of(headers: &HeaderMap, tenant: Tenant, most: Duration) -> Result<Self, Failure> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let caller = Self { tenant, priority: Priority::Normal, within: most };
        let caller = match text(PRIORITY) {
            None => caller,
            Some(name) => caller.with_priority(name)?,
        };
        match text(TIMEOUT) {
            None => Ok(caller),
            Some(value) => match value.trim().parse() {
                Ok(milliseconds) => caller.with_timeout(milliseconds),
                Err(_) => Err(Failure::invalid(format!("{TIMEOUT}: expected milliseconds, found {value:?}"))),
            },
        }
    }

    /// The same with an urgency by name.
    pub(crate) fn with_priority(self, name: &str) -> Result<Self, Failure> {
        let priority = match name.trim() {
            "high" => Priority::High,
            "normal" => Priority::Normal,
            "low" => Priority::Low,
            other => {
                let message = format!("expected the priority high, normal or low, found {other:?}");
                return Err(Failure::new(Kind::Invalid, message).of_field("priority"));
            }
        };
        Ok(Self { priority, ..self })
    }

    /// The same with less time.
    pub(crate) fn with_timeout(self, milliseconds: u64) -> Result<Self, Failure> {
        if milliseconds == 0 {
            return Err(Failure::invalid("expected a timeout of 1 ms or more, found 0").of_field("timeout_ms"));
        }
        Ok(Self { within: self.within.min(Duration::from_millis(milliseconds)), ..self })
    }
}
