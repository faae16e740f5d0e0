//! Adaptive batching as pure policy: which requests may wait, which sequences make a batch, when it goes, and how large it may be.
//!
//! Nothing in here has a thread, a clock or a socket. [`Queue`] is told what happens and what time it is, as the time since a moment
//! of the caller's choice, and says what to do next; a server and a library drive the same policy, and the tests drive it through
//! hours of simulated load in seconds. [`MemoryReader`] alone asks the system for something.
//!
//! docs/scheduling.md has the policy with its equations. In one place each:
//!
//! | question | answer |
//! |---|---|
//! | What may wait? | [`Capacity`]: tokens and requests, less for bulk than for the urgent, for one tenant no more than `α` times the room that is free |
//! | Who is next? | Start-time fair queueing: priorities by weight, in each the tenants by weight, of a tenant the oldest |
//! | What makes a batch? | What is due, in its order, as far as [`Limits`] go; like lengths together where the backend pads ([`Grouping`]) |
//! | When does it go? | [`Reason`]: as soon as it is full, or to wait would gain nothing |
//! | How large may it be? | [`BatchSizeOptimizer`]: what memory and the latency aimed at allow, by a [`CostModel`] that measurements set right |
//! | How large is it? | [`AdaptivePerformanceTuner`]: the budget with the best throughput for the [`Preset`], found by trying |
//! | What if memory is short? | [`MemoryPolicy`]: smaller batches from 80 %, no new requests above 90 % |
//! | Which model is next? | [`Scheduler`]: the one with the least seconds of the machine, by weight |
//! | What happened? | [`Statistics`] |
//!
//! ```
//! use embral_scheduler::{CostModel, Measured, Next, Preset, Priority, Queue, QueueConfig, Request, Tenant};
//! use std::time::Duration;
//!
//! let mut queue = Queue::new(QueueConfig::preset(Preset::Latency, CostModel::default()))?;
//! let now = Duration::from_millis(1);
//! let job = Request { tenant: Tenant(1), priority: Priority::Low, lengths: vec![200; 64], deadline: None };
//! let query = Request { tenant: Tenant(2), priority: Priority::High, lengths: vec![12], deadline: None };
//! let job = queue.submit(now, job)?;
//! let query = queue.submit(now, query)?;
//!
//! // The query is in the first batch, beside as much of the job as a tenth of a second holds.
//! let Next::Run(batch) = queue.turn(now).next else { panic!("the machine is idle and work waits") };
//! assert_eq!(batch.sequences[0].request, query);
//! assert_eq!(batch.shape.sequences, 1 + 2);
//!
//! let took = Duration::from_millis(60);
//! let answered = queue.complete(now + took, batch.id, Measured { took, bytes: None });
//! assert_eq!(answered, [query]);
//! assert!(queue.cancel(job));
//! assert!(queue.is_idle());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admission;
mod config;
mod cost;
mod curve;
mod dispatch;
mod fair;
mod forming;
mod memory;
mod optimizer;
mod queue;
mod rate;
mod request;
mod scheduler;
mod statistics;
mod tuner;
mod waiting;

pub use config::{Capacity, QueueConfig};
pub use cost::{CostModel, Shape};
pub use forming::Grouping;
pub use memory::{MemoryPolicy, MemoryReader, MemoryReport, MemoryUse};
pub use optimizer::{BatchSizeOptimizer, Limits};
pub use queue::{Batch, Measured, Next, Queue, Turn};
pub use request::{BatchId, Priority, Refusal, Refused, Request, RequestId, SequenceRef, Tenant};
pub use scheduler::{ModelNext, ModelTurn, Scheduler};
pub use statistics::{ClassStatistics, Reason, Statistics, Totals};
pub use tuner::{AdaptivePerformanceTuner, Observation, Preset, TunerConfig};

/// Compiles the Rust of docs/scheduling.md.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/scheduling.md")]
struct Scheduling;
