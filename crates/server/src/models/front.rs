//! Several workers as one model, with a queue of its own.

use super::{Loaded, Served, Slot};
use crate::settings::Resolved;
use embral::{
    Config,
    pool::{Pool, PoolOptions},
    queue::{Capacity, Dispatcher, ModelId, Observer, QueueConfig, Tenant},
    serving::ServedModel,
};
use embral_types::Result;
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Instant, SystemTime},
};

/// The most batches that are with workers at once: a thread waits for each.
const MOST_SLOTS: usize = 64;

/// The workers, ready to be served.
pub(crate) struct Front {
    name: String,
    loaded: Loaded,
}

impl Front {
    /// Opens the workers that the settings name; none where they name none. At least one of them has to answer.
    pub(crate) fn open(settings: &Resolved, shares: &[(Tenant, f64)], observer: Box<Observer>) -> Result<Option<Self>> {
        let told = &settings.settings;
        if told.workers.is_empty() {
            return Ok(None);
        }
        let begin = Instant::now();
        let config = Config {
            truncation: settings.truncation,
            threads: told.threads,
            offline: settings.offline,
            ..Config::default()
        };
        let options = PoolOptions {
            strategy: told.worker_strategy.as_deref().unwrap_or("least-loaded").parse()?,
            deadline: settings.request_timeout,
            ..PoolOptions::default()
        };
        let pool = Arc::new(Pool::open(&told.workers, &config, options)?);
        let slots = pool.slots().clamp(1, MOST_SLOTS);
        let dispatcher = Arc::new(Dispatcher::observed(slots, Some(observer))?);
        let model = Arc::new(ServedModel::of_pool(Arc::clone(&pool)));
        let id = enqueue(settings, shares, (&dispatcher, &model), &pool)?;
        let name = &pool.info().name;
        let name = name.rsplit_once("model=").map_or(name.as_str(), |(_, model)| model).to_owned();
        let loaded = Loaded {
            id,
            model,
            bytes: 0,
            dispatcher,
            took: begin.elapsed(),
            since: SystemTime::now(),
            cache_hits: AtomicU64::new(0),
            cache_misses: AtomicU64::new(0),
        };
        Ok(Some(Self { name, loaded }))
    }

    /// Its place among the models. It is open for as long as the server runs.
    pub(super) fn into_slot(self) -> Arc<Slot> {
        Slot::pinned(self.name, self.loaded)
    }
}

fn enqueue(
    settings: &Resolved,
    shares: &[(Tenant, f64)],
    (dispatcher, model): (&Dispatcher<Served>, &Arc<ServedModel>),
    pool: &Pool,
) -> Result<ModelId> {
    let capacity = Capacity { requests: settings.queue_requests, tokens: settings.queue_tokens, ..Capacity::default() };
    let config = QueueConfig {
        capacity,
        slots: pool.slots().clamp(1, MOST_SLOTS),
        batch_sequences: pool.batch_texts() as u64,
        ..QueueConfig::preset(settings.preset, model.cost())
    };
    let id = dispatcher.add(Arc::new(Served(Arc::clone(model))), config, 1.0)?;
    for &(tenant, share) in shares {
        dispatcher.set_weight(id, tenant, share)?;
    }
    Ok(id)
}
