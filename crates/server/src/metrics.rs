//! What is counted and measured, for Prometheus. `te_*` are the names of TEI's server, with its buckets, so that its dashboards go on
//! working; `embral_*` are this server's own. docs/server.md lists them.

use crate::{
    app::App,
    failure::{Failure, Kind},
    pipeline::Computed,
};
use embral::{
    pool::WorkerState,
    queue::{BatchReport, Reason, Refusal},
};
use prometheus::{
    Counter, CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntGauge, Opts, Registry,
    TextEncoder, exponential_buckets,
};
use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

/// A request that was answered.
pub(crate) struct Seen {
    pub(crate) dialect: &'static str,
    pub(crate) path: &'static str,
    pub(crate) status: u16,
    pub(crate) took: Duration,
}

/// All metrics of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: CounterVec,
    seconds: HistogramVec,
    flying: IntGauge,
    failures: CounterVec,
    stages: HistogramVec,
    tokens: Counter,
    texts: Counter,
    batches: CounterVec,
    batch_items: Histogram,
    batch_tokens: Histogram,
    batch_seconds: Histogram,
    models: ModelGauges,
    memory: [Gauge; 3],
    streams: IntGauge,
    tei: Tei,
    /// Held while [`Metrics::refresh`] reads.
    reading: Mutex<()>,
}

/// What is read from the queues when somebody asks.
struct ModelGauges {
    queue: GaugeVec,
    totals: CounterVec,
    refused: CounterVec,
    cache: CounterVec,
    budget: GaugeVec,
    throughput: GaugeVec,
    loaded: GaugeVec,
    in_use: GaugeVec,
    workers: GaugeVec,
}

/// The metrics of TEI's server.
struct Tei {
    count: CounterVec,
    success: CounterVec,
    failure: CounterVec,
    kinds: [[Counter; 2]; 2],
    request: Histogram,
    stages: [Histogram; 3],
    kind_stages: [[Histogram; 4]; 2],
    length: Histogram,
    queue: Gauge,
    next_size: Histogram,
    next_tokens: Histogram,
}

/// A request that is under way; counted until it is dropped.
pub(crate) struct Flying(IntGauge);

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// TEI's buckets of durations: 35, from 10 µs on, each 1.5 times the one before.
fn durations() -> Vec<f64> {
    exponential_buckets(1e-5, 1.5, 35).expect("positive numbers")
}

fn powers(count: usize) -> Vec<f64> {
    exponential_buckets(1.0, 2.0, count).expect("positive numbers")
}

/// Makes metrics and registers them. The names below are known to be valid and to be there once.
struct Maker<'r>(&'r Registry);

impl Maker<'_> {
    fn counter(&self, name: &str, help: &str) -> Counter {
        let made = Counter::new(name, help).expect("a valid name");
        self.0.register(Box::new(made.clone())).expect("registered once");
        made
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        let made = CounterVec::new(Opts::new(name, help), labels).expect("a valid name");
        self.0.register(Box::new(made.clone())).expect("registered once");
        made
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        let made = Gauge::new(name, help).expect("a valid name");
        self.0.register(Box::new(made.clone())).expect("registered once");
        made
    }

    fn count(&self, name: &str, help: &str) -> IntGauge {
        let made = IntGauge::new(name, help).expect("a valid name");
        self.0.register(Box::new(made.clone())).expect("registered once");
        made
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let made = GaugeVec::new(Opts::new(name, help), labels).expect("a valid name");
        self.0.register(Box::new(made.clone())).expect("registered once");
        made
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
        let made = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)).expect("a valid name");
        self.0.register(Box::new(made.clone())).expect("registered once");
        made
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: Vec<f64>) -> HistogramVec {
        let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels).expect("a valid name");
        self.0.register(Box::new(made.clone())).expect("registered once");
        made
    }
}

impl Tei {
    fn new(make: &Maker<'_>) -> Self {
        let counter = |name: &str| make.counter(name, "As TEI counts it");
        let seconds = |name: &str| make.histogram(name, "Seconds, as TEI measures them", durations());
        let stages = |of: &str| {
            ["tokenization", "queue", "inference"].map(|stage| seconds(&format!("te_{of}_{stage}_duration")))
        };
        let kind = |of: &str| {
            let [tokenization, queue, inference] = stages(of);
            [seconds(&format!("te_{of}_duration")), tokenization, queue, inference]
        };
        Self {
            count: make.counters("te_request_count", "Requests by whether they have one text or several", &["method"]),
            success: make.counters("te_request_success", "Requests that were answered", &["method"]),
            failure: make.counters("te_request_failure", "Requests that failed, by cause", &["err"]),
            kinds: ["embed", "predict"]
                .map(|of| [counter(&format!("te_{of}_count")), counter(&format!("te_{of}_success"))]),
            request: seconds("te_request_duration"),
            stages: stages("request"),
            kind_stages: ["embed", "predict"].map(kind),
            length: make.histogram("te_request_input_length", "Tokens of an input", powers(16)),
            queue: make.gauge("te_queue_size", "Inputs that wait"),
            next_size: make.histogram("te_batch_next_size", "Inputs of a batch", powers(13)),
            next_tokens: make.histogram("te_batch_next_tokens", "Tokens of a batch", powers(18)),
        }
    }

    /// Of a path of TEI's, or of the one that OpenAI's clients use there: which of its counters it is under.
    fn kind(path: &str) -> Option<usize> {
        match path {
            "/embed" | "/embed_all" | "/embed_sparse" | "/similarity" | "/v1/embeddings" | "/" | "/invocations" => {
                Some(0)
            }
            "/predict" | "/rerank" => Some(1),
            _ => None,
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        let model = &["model"][..];
        let models = ModelGauges {
            queue: make.gauges("embral_queue", "What waits and runs, by kind", &["model", "what"]),
            totals: make.counters("embral_work_total", "What the queue of a model did, by kind", &["model", "what"]),
            refused: make.counters("embral_refused_total", "Requests that were refused, by cause", &["model", "cause"]),
            cache: make.counters(
                "embral_cache_texts_total",
                "Texts by whether their vector was kept",
                &["model", "found"],
            ),
            budget: make.gauges("embral_batch_budget_tokens", "Tokens that a batch may have now", model),
            throughput: make.gauges("embral_throughput_tokens", "Tokens a second while a batch runs", model),
            loaded: make.gauges("embral_model_loaded", "1 for a model that is open", model),
            in_use: make.gauges("embral_model_requests", "Requests that use a model now", model),
            workers: make.gauges("embral_worker", "Workers of a front, by kind", &["worker", "what"]),
        };
        Self {
            requests: make.counters(
                "embral_requests_total",
                "Requests that were answered",
                &["dialect", "path", "status"],
            ),
            seconds: make.histograms(
                "embral_request_seconds",
                "Seconds from the head of a request to its answer",
                &["dialect", "path"],
                durations(),
            ),
            flying: make.count("embral_requests_in_flight", "Requests that are under way"),
            failures: make.counters("embral_failures_total", "Requests that failed, by cause", &["cause"]),
            stages: make.histograms("embral_stage_seconds", "Seconds of a request by stage", &["stage"], durations()),
            tokens: make.counter("embral_tokens_total", "Tokens of all inputs that were answered"),
            texts: make.counter("embral_texts_total", "Inputs that were answered"),
            batches: make.counters("embral_batches_total", "Batches by why they went when they did", &["reason"]),
            batch_items: make.histogram("embral_batch_texts", "Inputs of a batch", powers(13)),
            batch_tokens: make.histogram("embral_batch_tokens", "Tokens of a batch", powers(18)),
            batch_seconds: make.histogram("embral_batch_seconds", "Seconds that a batch was computed", durations()),
            memory: [
                make.gauge("embral_memory_rss_bytes", "Bytes of the process in memory"),
                make.gauge(
                    "embral_memory_limit_bytes",
                    "Bytes that it may have: of its control group, its address space or the machine",
                ),
                make.gauge("embral_memory_pressure", "The part of the memory it may have that is in use, from 0 to 1"),
            ],
            streams: make.count("embral_streams", "Streams that are open"),
            models,
            tei: Tei::new(&make),
            reading: Mutex::new(()),
            registry,
        }
    }

    /// Counts a request as under way.
    pub(crate) fn flying(&self) -> Flying {
        self.flying.inc();
        Flying(self.flying.clone())
    }

    /// Counts a stream as open.
    pub(crate) fn streaming(&self) -> Flying {
        self.streams.inc();
        Flying(self.streams.clone())
    }

    /// A stream broke off, behind an answer that had begun well.
    pub(crate) fn stream_failed(&self, failure: &Failure) {
        self.failures.with_label_values(&[failure.kind.name()]).inc();
    }

    /// Requests under way; those answered, and the failed ones among them.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let sum = |vec: &CounterVec| {
            prometheus::core::Collector::collect(vec)
                .iter()
                .flat_map(|family| {
                    family.get_metric().iter().map(|metric| metric.get_counter().get_value()).collect::<Vec<_>>()
                })
                .sum::<f64>() as u64
        };
        (self.flying.get().max(0) as u64, sum(&self.requests), sum(&self.failures))
    }

    /// A request was answered.
    pub(crate) fn seen(&self, seen: &Seen, failure: Option<&Failure>) {
        let seconds = seen.took.as_secs_f64();
        self.requests.with_label_values(&[seen.dialect, seen.path, &seen.status.to_string()]).inc();
        self.seconds.with_label_values(&[seen.dialect, seen.path]).observe(seconds);
        if let Some(failure) = failure {
            self.failures.with_label_values(&[failure.kind.name()]).inc();
        }
        let Some(kind) = Tei::kind(seen.path) else { return };
        self.tei.kinds[kind][0].inc();
        match failure {
            None => {
                self.tei.kinds[kind][1].inc();
                self.tei.request.observe(seconds);
                self.tei.kind_stages[kind][0].observe(seconds);
            }
            Some(failure) => {
                let cause = match failure.kind {
                    Kind::TooLong => "tokenization",
                    Kind::TooMany => "batch_size",
                    Kind::Unsupported => "model_type",
                    Kind::Overloaded | Kind::RateLimited => "overloaded",
                    Kind::Internal | Kind::Unavailable => "inference",
                    Kind::Timeout => "dropped",
                    Kind::Empty => "missing_values",
                    _ => "validation",
                };
                self.tei.failure.with_label_values(&[cause]).inc();
            }
        }
    }

    /// Inputs were computed, for a request of any dialect.
    pub(crate) fn computed(&self, computed: &Computed) {
        let timings = [computed.timings.tokenize, computed.timings.queue, computed.timings.inference];
        for (i, (stage, took)) in ["tokenize", "queue", "inference"].iter().zip(timings).enumerate() {
            self.stages.with_label_values(&[stage]).observe(took.as_secs_f64());
            self.tei.stages[i].observe(took.as_secs_f64());
        }
        let predicted = computed.rows.first().is_some_and(|row| !row.output.logits.is_empty());
        for (histogram, took) in self.tei.kind_stages[usize::from(predicted)][1..].iter().zip(timings) {
            histogram.observe(took.as_secs_f64());
        }
        let method = if computed.rows.len() == 1 { "single" } else { "batch" };
        self.tei.count.with_label_values(&[method]).inc();
        self.tei.success.with_label_values(&[method]).inc();
        computed.rows.iter().for_each(|row| self.tei.length.observe(row.tokens as f64));
        self.tokens.inc_by(computed.tokens() as f64);
        self.texts.inc_by(computed.rows.len() as f64);
    }

    /// An answer was written.
    pub(crate) fn serialized(&self, took: Duration) {
        self.stages.with_label_values(&["serialize"]).observe(took.as_secs_f64());
    }

    /// A batch was computed.
    pub(crate) fn batch(&self, report: &BatchReport) {
        let (items, tokens) = (report.items as f64, report.tokens as f64);
        self.batches.with_label_values(&[report.reason.name()]).inc();
        self.batch_items.observe(items);
        self.batch_tokens.observe(tokens);
        self.batch_seconds.observe(report.took.as_secs_f64());
        self.tei.next_size.observe(items);
        self.tei.next_tokens.observe(tokens);
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(&self, app: &App) -> Vec<u8> {
        self.refresh(app);
        let mut page = Vec::with_capacity(32 << 10);
        if let Err(e) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            tracing::error!("the metrics cannot be written: {e}");
        }
        page
    }

    /// Reads what is not counted as it happens.
    fn refresh(&self, app: &App) {
        // Two readers at once would both add what is new.
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let report = app.dispatcher.memory();
        let rss = embral_rss().unwrap_or(0.0);
        let room = report.group.or(report.address_space).or(report.machine);
        let values = [rss, room.map_or(0.0, |memory| memory.limit as f64), report.pressure()];
        self.memory.iter().zip(values).for_each(|(gauge, value)| gauge.set(value));
        // Of a model that was closed meanwhile nothing is left to be told.
        let gauges = &self.models;
        [&gauges.queue, &gauges.budget, &gauges.throughput].into_iter().for_each(|gauge| gauge.reset());
        let mut waiting_all = 0;
        for slot in app.models.slots() {
            let name = slot.name.as_str();
            let gauges = &self.models;
            let loaded = slot.loaded();
            gauges.loaded.with_label_values(&[name]).set(f64::from(u8::from(loaded.is_some())));
            gauges.in_use.with_label_values(&[name]).set(slot.in_use() as f64);
            let Some(loaded) = loaded else { continue };
            let set = |vec: &GaugeVec, of: &str, what: &str, value: f64| vec.with_label_values(&[of, what]).set(value);
            let raise = |vec: &CounterVec, what: &str, value: f64| raise(&vec.with_label_values(&[name, what]), value);
            raise(&gauges.cache, "yes", loaded.cache_hits.load(Ordering::Relaxed) as f64);
            raise(&gauges.cache, "no", loaded.cache_misses.load(Ordering::Relaxed) as f64);
            for worker in loaded.model.pool().map(|pool| pool.status().workers).unwrap_or_default() {
                let serving = worker.state == WorkerState::Serving;
                for (what, value) in [
                    ("serving", f64::from(u8::from(serving))),
                    ("in_flight", worker.in_flight as f64),
                    ("answered", worker.answered as f64),
                    ("failed", worker.failed as f64),
                    ("ejections", worker.ejections as f64),
                    ("tokens_per_second", worker.tokens_per_second.unwrap_or(0.0)),
                ] {
                    set(&gauges.workers, &worker.name, what, value);
                }
            }
            let Some(queue) = loaded.dispatcher.statistics(loaded.id) else { continue };
            waiting_all += queue.waiting_sequences;
            for (what, value) in [
                ("waiting_requests", queue.waiting_requests as f64),
                ("waiting_texts", queue.waiting_sequences as f64),
                ("waiting_tokens", queue.waiting_tokens as f64),
                ("running_texts", queue.running_sequences as f64),
                ("oldest_seconds", queue.oldest.map_or(0.0, |age| age.as_secs_f64())),
            ] {
                set(&gauges.queue, name, what, value);
            }
            let totals = queue.totals;
            for (what, value) in [
                ("accepted", totals.accepted as f64),
                ("done", totals.done as f64),
                ("failed", totals.failed as f64),
                ("expired", totals.expired as f64),
                ("cancelled", totals.cancelled as f64),
                ("batches", totals.batches as f64),
                ("texts", totals.sequences as f64),
                ("tokens", totals.tokens as f64),
                ("padding_saved_tokens", totals.padding_saved as f64),
                ("busy_seconds", totals.busy_seconds),
            ] {
                raise(&gauges.totals, what, value);
            }
            for cause in Refusal::ALL {
                raise(&gauges.refused, cause.name(), totals.refused[cause.index()] as f64);
            }
            gauges.budget.with_label_values(&[name]).set(queue.budget_tokens as f64);
            gauges.throughput.with_label_values(&[name]).set(queue.throughput.unwrap_or(0.0));
        }
        self.tei.queue.set(waiting_all as f64);
        // So that the names are there before anything has gone wrong.
        Reason::ALL.iter().for_each(|reason| drop(self.batches.with_label_values(&[reason.name()])));
        for cause in ["validation", "batch_size", "model_type", "overloaded", "tokenization", "inference", "dropped"] {
            drop(self.tei.failure.with_label_values(&[cause]));
        }
        for method in ["single", "batch"] {
            drop((self.tei.count.with_label_values(&[method]), self.tei.success.with_label_values(&[method])));
        }
    }
}

/// Brings a counter up to what is counted elsewhere. That begins at 0 again where a model was closed and opened, and so does the counter,
/// which is what Prometheus takes for a restart.
fn raise(counter: &Counter, value: f64) {
    if value < counter.get() {
        counter.reset();
    }
    counter.inc_by(value - counter.get());
}

/// Bytes of this process in memory.
pub(crate) fn embral_rss() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    // Pages of 4 KiB on all that this is built for.
    text.split_whitespace().nth(1)?.parse::<f64>().ok().map(|pages| pages * 4096.0)
}

/// What a dispatcher tells of its batches, into metrics that may not be there yet.
pub(crate) fn observer(metrics: &Arc<Metrics>) -> Box<embral::queue::Observer> {
    let metrics = Arc::clone(metrics);
    Box::new(move |report| metrics.batch(report))
}
