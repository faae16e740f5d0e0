//! The models of a server: opened when they are needed, kept while they are, closed when they are not.

mod front;
mod names;
mod served;

pub(crate) use front::Front;
pub(crate) use served::Served;

use crate::{
    failure::{Failure, Kind},
    settings::{ModelEntry, Resolved},
};
use embral::{
    Config, ModelInfo,
    cache::VectorCache,
    queue::{Capacity, Dispatcher, ModelId, QueueConfig, Tenant},
    serving::{Offers, ServedModel},
    store::Store,
};
use embral_types::Error;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// After a model could not be opened, this long nobody tries again: opening reads files, and may go to the network.
const AGAIN: Duration = Duration::from_secs(5);
/// Seconds that a model of the store is kept where nobody says.
const KEEP_STORED: i64 = 300;
/// Kept for ever.
pub(crate) const FOR_EVER: i64 = -1;

/// All models.
pub(crate) struct Models {
    /// The named ones first, in their order.
    slots: RwLock<Vec<Arc<Slot>>>,
    dispatcher: Arc<Dispatcher<Served>>,
    /// The shares of tenants, where they are not 1.
    shares: Vec<(Tenant, f64)>,
    settings: Arc<Resolved>,
    begin: Instant,
    /// One model is opened at a time where there is a bound for all: the room that one finds is not another's.
    room: tokio::sync::Mutex<()>,
}

/// The place of a model, whether it is open or not.
pub(crate) struct Slot {
    pub(crate) entry: ModelEntry,
    /// What it is called in answers.
    pub(crate) name: String,
    /// All names that clients may use.
    pub(crate) names: Vec<String>,
    /// Named by the settings, not found in the store.
    pub(crate) declared: bool,
    /// Open as long as the server runs: there is nothing that it could be opened from again.
    pinned: bool,
    loaded: RwLock<Option<Arc<Loaded>>>,
    known: RwLock<Option<Arc<Facts>>>,
    opening: tokio::sync::Mutex<()>,
    failed: Mutex<Option<(Instant, Failure)>>,
    in_use: AtomicUsize,
    /// Milliseconds since the server began.
    last_used: AtomicU64,
    /// Seconds, of requests that do not say.
    kept: i64,
    /// Seconds, as the last request has it.
    keep_alive: AtomicI64,
}

/// What is known of a model since it was opened first, also while it is closed.
pub(crate) struct Facts {
    pub(crate) info: ModelInfo,
    pub(crate) offers: Offers,
    /// Components of a token's vector.
    pub(crate) token_dimensions: Option<usize>,
    /// When it was opened first.
    pub(crate) since: SystemTime,
}

/// A model that is open.
pub(crate) struct Loaded {
    pub(crate) id: ModelId,
    pub(crate) model: Arc<ServedModel>,
    /// Bytes of its weights as they are kept; 0 where only its runtime knows.
    pub(crate) bytes: u64,
    pub(crate) dispatcher: Arc<Dispatcher<Served>>,
    /// How long opening took.
    pub(crate) took: Duration,
    pub(crate) since: SystemTime,
    /// Texts whose vector was kept, and those whose was not.
    pub(crate) cache_hits: AtomicU64,
    pub(crate) cache_misses: AtomicU64,
}

/// A model in use: it is not closed while there is one.
pub(crate) struct Lease {
    pub(crate) slot: Arc<Slot>,
    pub(crate) loaded: Arc<Loaded>,
    /// How long this request waited for the model to be opened.
    pub(crate) waited: Duration,
    begin: Instant,
}

impl Lease {
    /// The model.
    pub(crate) fn model(&self) -> &Arc<ServedModel> {
        &self.loaded.model
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.slot.name
    }

    /// A failure in the words of clients: the model by the name that they know, not by where it lies.
    pub(crate) fn told(&self, mut failure: Failure) -> Failure {
        let own = &self.model().info().name;
        if own != self.name() {
            failure.message = failure.message.replace(own, self.name());
        }
        failure
    }

    /// Keeps the model so long after this request, unless another one comes; `FOR_EVER` is below 0.
    pub(crate) fn keep_for(&self, seconds: i64) {
        self.slot.keep_alive.store(seconds, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slot.last_used.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.slot.in_use.fetch_sub(1, Ordering::Release);
    }
}

impl Slot {
    fn new(entry: ModelEntry, declared: bool, keep_alive: i64) -> Self {
        let names = names::of(&entry);
        Self {
            name: names[0].clone(),
            names,
            entry,
            declared,
            pinned: false,
            loaded: RwLock::new(None),
            known: RwLock::new(None),
            opening: tokio::sync::Mutex::new(()),
            failed: Mutex::new(None),
            in_use: AtomicUsize::new(0),
            last_used: AtomicU64::new(0),
            kept: keep_alive,
            keep_alive: AtomicI64::new(keep_alive),
        }
    }

    /// The place of a model that is open and stays so.
    fn pinned(name: String, loaded: Loaded) -> Arc<Self> {
        let entry = ModelEntry { name, ..ModelEntry::default() };
        let slot = Arc::new(Self { pinned: true, ..Self::new(entry, true, FOR_EVER) });
        slot.hold(Arc::new(loaded));
        slot
    }

    /// Takes in the model that was opened.
    fn hold(&self, loaded: Arc<Loaded>) {
        let model = &loaded.model;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let since = known.as_ref().map_or(loaded.since, |known| known.since);
        let (info, offers) = (model.info().clone(), model.offers());
        *known = Some(Arc::new(Facts { info, offers, token_dimensions: model.token_dimensions(), since }));
        drop(known);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
    }

    /// What is known of the model, where it has been open.
    pub(crate) fn facts(&self) -> Option<Arc<Facts>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The model, where it is open.
    pub(crate) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the model can be asked for; none where it has never been open.
    pub(crate) fn offers(&self) -> Option<Offers> {
        self.facts().map(|facts| facts.offers)
    }

    /// Requests that use it now.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Seconds that it is kept after its last request; below 0 for ever.
    pub(crate) fn keep_alive(&self) -> i64 {
        self.keep_alive.load(Ordering::Relaxed)
    }

    /// The model, where it is open, counted as in use.
    fn take(self: &Arc<Self>, waited: Duration, begin: Instant) -> Option<Lease> {
        // Closing looks at `in_use` with the lock held for writing, so that nobody takes a model that is about to be closed.
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let loaded = Arc::clone(loaded.as_ref()?);
        self.in_use.fetch_add(1, Ordering::Acquire);
        // What one request asks for does not bind the next.
        self.keep_alive.store(self.kept, Ordering::Relaxed);
        Some(Lease { slot: Arc::clone(self), loaded, waited, begin })
    }
}

impl Models {
    pub(crate) fn new(
        settings: Arc<Resolved>,
        dispatcher: Arc<Dispatcher<Served>>,
        shares: Vec<(Tenant, f64)>,
        begin: Instant,
        front: Option<Front>,
    ) -> Self {
        let keep = settings.settings.keep_alive.unwrap_or(FOR_EVER);
        let named = settings.settings.models.iter().map(|entry| Arc::new(Slot::new(entry.clone(), true, keep)));
        let slots = front.map(Front::into_slot).into_iter().chain(named).collect();
        Self { slots: RwLock::new(slots), dispatcher, shares, settings, begin, room: tokio::sync::Mutex::new(()) }
    }

    /// All places, the named ones first.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Seconds since the last request of a model.
    pub(crate) fn idle(&self, slot: &Slot) -> f64 {
        let used = Duration::from_millis(slot.last_used.load(Ordering::Relaxed));
        if slot.in_use() > 0 { 0.0 } else { self.begin.elapsed().saturating_sub(used).as_secs_f64() }
    }

    /// The place of the model of a name; of none, of the first one.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Arc<Slot>, Failure> {
        let slots = self.slots();
        let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else {
            return slots.first().cloned().ok_or_else(|| Failure::new(Kind::NoModel, "no model is served"));
        };
        if let Some(slot) = slots.iter().find(|slot| names::mean(&slot.names, name)) {
            return Ok(Arc::clone(slot));
        }
        if self.settings.serve_stored
            && let Some(slot) = self.adopt(name)
        {
            return Ok(slot);
        }
        let known: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).take(8).collect();
        let shown: String = name.chars().take(100).collect();
        let message = format!("model {shown:?} not found; served are: {}", known.join(", "));
        Err(Failure::new(Kind::NoModel, message).of_field("model"))
    }

    /// Gives the model of the store that has this name a place; none where there is no such model. It reads folders.
    pub(crate) fn adopt(&self, name: &str) -> Option<Arc<Slot>> {
        let entry = ModelEntry { name: names::stored(name)?, ..ModelEntry::default() };
        let slot = Arc::new(Slot::new(entry, false, self.settings.settings.keep_alive.unwrap_or(KEEP_STORED)));
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = slots.iter().find(|there| there.name == slot.name) {
            return Some(Arc::clone(there));
        }
        slots.push(Arc::clone(&slot));
        Some(slot)
    }

    /// The model of a name, opened where it is not.
    pub(crate) async fn lease(&self, name: Option<&str>) -> Result<Lease, Failure> {
        let slot = self.find(name)?;
        self.lease_of(&slot).await
    }

    /// The first of the named models that `fits`, by what models offer; none where none does. Which one that is does not depend on which
    /// are open: one that has never been is opened to see, and where that fails so does this, for vectors of two models do not mix.
    pub(crate) async fn first(&self, fits: impl Fn(Offers) -> bool) -> Result<Option<Lease>, Failure> {
        for slot in self.slots().iter().filter(|slot| slot.declared) {
            if slot.offers().is_some_and(|offers| !fits(offers)) {
                continue;
            }
            let lease = self.lease_of(slot).await?;
            if fits(lease.model().offers()) {
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }

    /// The model of a place, opened where it is not. Those who wait for the same model wait for one opening.
    pub(crate) async fn lease_of(&self, slot: &Arc<Slot>) -> Result<Lease, Failure> {
        let start = Instant::now();
        loop {
            if let Some(lease) = slot.take(start.elapsed(), self.begin) {
                return Ok(lease);
            }
            let _opening = slot.opening.lock().await;
            if slot.loaded().is_some() {
                continue;
            }
            let failed = slot.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((at, failure)) = failed
                && at.elapsed() < AGAIN
            {
                return Err(failure);
            }
            match self.open(slot).await {
                Ok(loaded) => {
                    slot.last_used.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
                    slot.hold(loaded);
                }
                Err(failure) => {
                    tracing::warn!(model = %slot.name, "the model cannot be opened: {failure}");
                    *slot.failed.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some((Instant::now(), failure.clone()));
                    return Err(failure);
                }
            }
        }
    }

    async fn open(&self, slot: &Slot) -> Result<Arc<Loaded>, Failure> {
        let start = Instant::now();
        let config = self.config(&slot.entry).map_err(Failure::from)?;
        let _room = match self.settings.model_memory {
            Some(most) => {
                let room = self.room.lock().await;
                self.make_room(&config, most).await?;
                Some(room)
            }
            None => None,
        };
        tracing::info!(model = %slot.name, "opening");
        let opened = tokio::task::spawn_blocking(move || {
            let bytes = names::weight_bytes(&config)?;
            ServedModel::open(config).map(|model| (model, bytes))
        });
        let opened = opened.await.map_err(|_| Failure::new(Kind::Internal, "opening the model panicked"))?;
        let (model, bytes) = opened.map_err(|e| unopened(&slot.name, &e))?;
        let model = Arc::new(model);
        let id = self.enqueue(&slot.entry, &model).map_err(Failure::from)?;
        let took = start.elapsed();
        tracing::info!(model = %slot.name, task = model.task(), seconds = took.as_secs_f64(), "open");
        Ok(Arc::new(Loaded {
            id,
            model,
            bytes,
            dispatcher: Arc::clone(&self.dispatcher),
            took,
            since: SystemTime::now(),
            cache_hits: AtomicU64::new(0),
            cache_misses: AtomicU64::new(0),
        }))
    }

    /// Gives a model its queue.
    fn enqueue(&self, entry: &ModelEntry, model: &Arc<ServedModel>) -> Result<ModelId, Error> {
        let capacity = Capacity {
            requests: self.settings.queue_requests,
            tokens: self.settings.queue_tokens,
            ..Capacity::default()
        };
        let config = QueueConfig { capacity, ..QueueConfig::preset(self.settings.preset, model.cost()) };
        let weight = f64::from(entry.weight.unwrap_or(1));
        let id = self.dispatcher.add(Arc::new(Served(Arc::clone(model))), config, weight)?;
        for &(tenant, share) in &self.shares {
            self.dispatcher.set_weight(id, tenant, share)?;
        }
        Ok(id)
    }

    /// How a model is opened.
    fn config(&self, entry: &ModelEntry) -> Result<Config, Error> {
        let settings = &self.settings;
        let precision = match &entry.precision {
            Some(name) => name.parse()?,
            None => settings.precision,
        };
        let vector_cache = settings.vector_cache_memory.map(|bytes| VectorCache {
            memory_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            ..VectorCache::default()
        });
        Ok(Config {
            model: Some(entry.name.clone()).filter(|name| !name.is_empty()),
            // The model inside embral is a table, which is used as it is stored.
            precision: if entry.name.is_empty() { embral::Precision::F32 } else { precision },
            dims: entry.dims,
            pooling: entry.pooling.as_deref().map(str::parse).transpose()?,
            max_tokens: entry.max_tokens,
            truncation: settings.truncation,
            threads: settings.settings.threads,
            offline: settings.offline,
            vector_cache,
            ..Config::default()
        })
    }

    /// Closes models that nobody uses, those used longest ago first, until one more fits into `most` bytes.
    async fn make_room(&self, config: &Config, most: u64) -> Result<(), Failure> {
        let config = config.clone();
        let measured = tokio::task::spawn_blocking(move || names::weight_bytes(&config)).await;
        let needed = measured.unwrap_or(Ok(0)).map_err(|e| unopened("the model", &e))?;
        loop {
            let open: Vec<(Arc<Slot>, u64)> =
                self.slots().into_iter().filter_map(|slot| slot.loaded().map(|loaded| (slot, loaded.bytes))).collect();
            let used: u64 = open.iter().map(|(_, bytes)| bytes).sum();
            if used + needed <= most {
                return Ok(());
            }
            if needed > most {
                let message = format!("the weights take {needed} bytes, and all models may take {most}");
                return Err(Failure::new(Kind::Unavailable, message));
            }
            let idle = open.iter().filter(|(slot, _)| slot.in_use() == 0 && !slot.pinned);
            let oldest = idle.min_by_key(|(slot, _)| slot.last_used.load(Ordering::Relaxed));
            if !oldest.is_some_and(|(slot, _)| self.close_if_idle(slot)) && oldest.is_none() {
                let mut failure =
                    Failure::new(Kind::Overloaded, "other models are in use, and there is no memory for one more");
                failure.retry_after = Some(Duration::from_secs(1));
                return Err(failure);
            }
        }
    }

    /// Closes a model unless somebody uses it; whether it was closed.
    pub(crate) fn close_if_idle(&self, slot: &Slot) -> bool {
        if slot.pinned {
            return false;
        }
        let mut loaded = slot.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if slot.in_use.load(Ordering::Acquire) > 0 {
            return false;
        }
        let Some(gone) = loaded.take() else { return false };
        drop(loaded);
        gone.dispatcher.remove(gone.id);
        tracing::info!(model = %slot.name, "closed");
        true
    }

    /// Closes the models that have been idle for as long as they are kept.
    pub(crate) fn close_idle(&self) {
        for slot in self.slots() {
            let keep = slot.keep_alive();
            if keep >= 0 && slot.loaded().is_some() && self.idle(&slot) >= keep as f64 {
                self.close_if_idle(&slot);
            }
        }
    }

    /// Forgets a model of the store, as it was deleted there.
    pub(crate) fn forget(&self, slot: &Arc<Slot>) {
        self.close_if_idle(slot);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|there| there.declared || !Arc::ptr_eq(there, slot));
    }

    /// The models of the store by name, with their bytes; none where the store may not be seen.
    pub(crate) fn stored(&self) -> BTreeMap<String, embral::store::Stored> {
        if !self.settings.serve_stored {
            return BTreeMap::new();
        }
        let all = Store::open_default().and_then(|store| store.list()).unwrap_or_default();
        all.into_iter().map(|stored| (stored.name.clone(), stored)).collect()
    }
}

/// A model that could not be opened, without the places of files on this machine.
fn unopened(name: &str, error: &Error) -> Failure {
    tracing::debug!("{error:?}");
    let mut failure = Failure::from(Error::new(error.kind(), error.message()));
    failure.kind = match failure.kind {
        Kind::Overloaded => Kind::Overloaded,
        _ => Kind::Unavailable,
    };
    failure.message = format!("{name} cannot be opened: {}", failure.message);
    failure
}
