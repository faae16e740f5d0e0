//! Whether the process lives, and whether it can do what it is for.

use crate::{
    app::App,
    caller::Caller,
    failure::{Failure, Kind},
    pipeline::{Item, Wish},
};
use embral::queue::{Priority, Tenant};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A real embedding so long ago still says that the model works.
const FRESH: Duration = Duration::from_secs(5);
/// How long a probe may take: a batch that is under way, and its own.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the health of a server.
#[derive(Debug)]
pub(crate) struct Health {
    begin: Instant,
    /// Milliseconds from the beginning until something was computed last, and 1; 0 for never.
    last: AtomicU64,
    /// The models of the start are open.
    started: AtomicBool,
    draining: AtomicBool,
    probing: tokio::sync::Mutex<()>,
}

impl Health {
    pub(crate) fn new(begin: Instant) -> Self {
        let (started, draining) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { begin, last: AtomicU64::new(0), started, draining, probing: tokio::sync::Mutex::new(()) }
    }

    /// Something was computed just now.
    pub(crate) fn computed(&self) {
        self.last.store(self.begin.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    /// The models of the start are open.
    pub(crate) fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// No more requests are wanted.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn has_computed(&self) -> bool {
        self.last.load(Ordering::Relaxed) > 0
    }

    fn is_fresh(&self) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        !last.is_zero() && self.begin.elapsed().saturating_sub(last) < FRESH
    }
}

impl App {
    /// Fails unless requests can be answered: the server is not stopping, its models are open, and one has computed something within
    /// the last seconds, if only for this.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        let health = &self.health;
        if health.is_draining() {
            return Err(Failure::new(Kind::Unavailable, "the server is stopping"));
        }
        if !health.started.load(Ordering::Acquire) {
            return Err(Failure::new(Kind::Unavailable, "the models are being opened"));
        }
        if health.is_fresh() {
            return Ok(());
        }
        let _probing = health.probing.lock().await;
        if health.is_fresh() {
            return Ok(());
        }
        let slots = self.models.slots();
        let open = slots.iter().find(|slot| slot.loaded().is_some());
        if open.is_none() && health.has_computed() {
            // What worked was closed because nobody asked for it: it is opened for who asks next, not for this.
            return Ok(());
        }
        let Some(slot) = open.or(slots.first()) else {
            return Err(Failure::new(Kind::Unavailable, "no model is served"));
        };
        let probe = async {
            let lease = self.models.lease_of(slot).await?;
            self.probe(&lease).await
        };
        tokio::time::timeout(PATIENCE, probe).await.unwrap_or_else(|_| {
            Err(Failure::new(Kind::Unavailable, format!("the model gave nothing for {} s", PATIENCE.as_secs())))
        })
    }

    /// Has a model compute something.
    pub(crate) async fn probe(&self, lease: &crate::models::Lease) -> Result<(), Failure> {
        let offers = lease.model().offers();
        let text = "ready?".to_owned();
        let item = if offers.scores { Item::Pair("ready?".into(), text) } else { Item::Text(text) };
        let mut wish = Wish::default();
        wish.wanted.vector = offers.dense || offers.scores || offers.labels;
        wish.wanted.sparse = !offers.dense && offers.sparse;
        wish.wanted.multi_vector = !offers.dense && offers.multi_vector;
        let caller = Caller { tenant: Tenant::default(), priority: Priority::High, within: PATIENCE };
        self.compute(&caller, lease, vec![item], wish).await.map(|_| ())
    }
}
