//! The way of a request, whatever its dialect: model, tokens, queue, outputs.

use crate::{
    app::App,
    caller::Caller,
    failure::{Failure, Kind},
    log::SPANS,
    models::Lease,
};
use embral::{
    Prompt, Truncation,
    queue::Request,
    serving::{Input, Output, Reading, Sequence, Wanted},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tracing::Instrument;

/// Bytes of text that are tokenised on the spot; more go to a thread that may wait.
const ON_THE_SPOT: usize = 16 << 10;

/// Runs what takes its time on a thread that may wait. `failed` is what clients are told where it panics.
pub(crate) async fn aside<T, E>(
    failed: &'static str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Failure>
where
    T: Send + 'static,
    E: Send + 'static,
    Failure: From<E>,
{
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| Failure::new(Kind::Internal, failed))??)
}

/// One input of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Text(String),
    Ids(Vec<u32>),
    Pair(Arc<str>, String),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Ids(ids) => 4 * ids.len(),
            Self::Pair(first, second) => first.len() + second.len(),
        }
    }

    fn characters(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Ids(_) => 0,
            Self::Pair(first, second) => first.chars().count() + second.chars().count(),
        }
    }

    fn as_input(&self) -> Input<'_> {
        match self {
            Self::Text(text) => Input::Text(text),
            Self::Ids(ids) => Input::Ids(ids),
            Self::Pair(first, second) => Input::Pair(first, second),
        }
    }
}

/// What is put before texts, as a request says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Prompting {
    #[default]
    Default,
    Query,
    Document,
    Name(String),
    Text(String),
}

impl Prompting {
    pub(crate) fn as_prompt(&self) -> Prompt<'_> {
        match self {
            Self::Default => Prompt::Default,
            Self::Query => Prompt::Query,
            Self::Document => Prompt::Document,
            Self::Name(name) => Prompt::Name(name),
            Self::Text(text) => Prompt::Text(text),
        }
    }
}

/// What is wanted of the inputs of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) prompt: Prompting,
    pub(crate) truncation: Option<Truncation>,
    pub(crate) wanted: Wanted,
}

/// Where the time of a request went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timings {
    pub(crate) tokenize: Duration,
    pub(crate) queue: Duration,
    pub(crate) inference: Duration,
}

/// The output of one input.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) output: Output,
    pub(crate) tokens: usize,
    pub(crate) truncated: bool,
}

/// The outputs of a request, in the order of its inputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Computed {
    pub(crate) rows: Vec<Row>,
    pub(crate) timings: Timings,
    /// Characters of its texts.
    pub(crate) characters: usize,
}

impl Computed {
    /// Tokens of all inputs.
    pub(crate) fn tokens(&self) -> usize {
        self.rows.iter().map(|row| row.tokens).sum()
    }
}

impl App {
    /// Computes what is wanted of the inputs of a request.
    pub(crate) async fn compute(
        &self,
        caller: &Caller,
        lease: &Lease,
        items: Vec<Item>,
        wish: Wish,
    ) -> Result<Computed, Failure> {
        self.check_count(items.len())?;
        let start = Instant::now();
        let bytes: usize = items.iter().map(Item::bytes).sum();
        let characters = items.iter().map(Item::characters).sum();
        let (model, texts) = (Arc::clone(lease.model()), items.len());
        let read = move || {
            let Wish { prompt, truncation, wanted } = &wish;
            let reading = Reading { prompt: prompt.as_prompt(), truncation: *truncation, wanted: wanted.clone() };
            let one = |(index, item): (usize, &Item)| {
                model.read(item.as_input(), &reading).map_err(|e| Failure::from(e).of_text(index))
            };
            items.iter().enumerate().map(one).collect::<Result<Vec<Sequence>, Failure>>()
        };
        let span = tracing::info_span!(target: SPANS, "tokenize", embral.texts = texts, embral.bytes = bytes);
        let sequences = if bytes <= ON_THE_SPOT {
            span.in_scope(read)
        } else {
            let read = tokio::task::spawn_blocking(read).instrument(span).await;
            read.map_err(|_| Failure::new(Kind::Internal, "the tokenizer failed on these texts"))?
        };
        let sequences = sequences.map_err(|failure| lease.told(failure))?;
        let tokenize = start.elapsed();
        let mut computed = self.run(caller, lease, sequences).await?;
        computed.timings.tokenize = tokenize;
        computed.characters = characters;
        self.metrics.computed(&computed);
        Ok(computed)
    }

    /// Refuses more inputs than a request may have.
    pub(crate) fn check_count(&self, found: usize) -> Result<(), Failure> {
        let most = self.settings.max_inputs;
        if found > most {
            let message = format!("batch size {found} > maximum allowed batch size {most}");
            return Err(Failure::new(Kind::TooMany, message));
        }
        Ok(())
    }

    /// Sends sequences through the queue of a model.
    pub(crate) async fn run(
        &self,
        caller: &Caller,
        lease: &Lease,
        sequences: Vec<Sequence>,
    ) -> Result<Computed, Failure> {
        let mut rows: Vec<Row> = Vec::with_capacity(sequences.len());
        let (mut waiting, mut places, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for (place, sequence) in sequences.into_iter().enumerate() {
            let tokens = sequence.tokens();
            let known = sequence.known();
            rows.push(Row { tokens, truncated: sequence.is_truncated(), output: Output::default() });
            match known {
                Some(output) => rows[place].output = output,
                None => {
                    lengths.push(u32::try_from(tokens).unwrap_or(u32::MAX));
                    places.push(place);
                    waiting.push(sequence);
                }
            }
        }
        let loaded = &lease.loaded;
        loaded.cache_hits.fetch_add((rows.len() - places.len()) as u64, Ordering::Relaxed);
        loaded.cache_misses.fetch_add(places.len() as u64, Ordering::Relaxed);
        self.limiter.tokens(caller.tenant, rows.iter().map(|row| row.tokens).sum());
        let mut timings = Timings::default();
        if !waiting.is_empty() {
            let request =
                Request { tenant: caller.tenant, priority: caller.priority, lengths, deadline: Some(caller.within) };
            let span = tracing::info_span!(
                target: SPANS, "compute", embral.model = lease.name(), embral.texts = waiting.len(),
                embral.queue_ms = tracing::field::Empty, embral.inference_ms = tracing::field::Empty,
            );
            let submitted = loaded.dispatcher.submit(loaded.id, waiting, request).instrument(span.clone());
            let answer = submitted.await.map_err(|e| {
                let mut failure = Failure::from(e);
                failure.index = failure.index.and_then(|index| places.get(index).copied());
                failure
            })?;
            for (place, output) in places.into_iter().zip(answer.outputs) {
                rows[place].output = output;
            }
            (timings.queue, timings.inference) = (answer.queued, answer.computed);
            span.record("embral.queue_ms", timings.queue.as_secs_f64() * 1e3);
            span.record("embral.inference_ms", timings.inference.as_secs_f64() * 1e3);
        }
        self.health.computed();
        Ok(Computed { rows, timings, characters: 0 })
    }

    /// The scores of documents for a query, best first, and what they took. `raw` leaves the logits as they are.
    pub(crate) async fn rerank(
        &self,
        caller: &Caller,
        lease: &Lease,
        query: &str,
        documents: Vec<String>,
        ranking: Ranking,
    ) -> Result<(Vec<Ranked>, Computed), Failure> {
        if !lease.model().offers().scores {
            let message = format!(
                "{} does not rerank: expected a reranker, found a model for {}",
                lease.name(),
                lease.model().task()
            );
            return Err(Failure::new(Kind::Unsupported, message).of_field("model"));
        }
        if documents.is_empty() {
            return Err(Failure::new(Kind::Empty, "`documents` cannot be empty: expected texts to be ranked"));
        }
        let query: Arc<str> = query.into();
        let items = documents.into_iter().map(|document| Item::Pair(Arc::clone(&query), document)).collect();
        let wish = Wish { truncation: ranking.truncation, ..Wish::default() };
        let computed = self.compute(caller, lease, items, wish).await?;
        let mut scores: Vec<f32> =
            computed.rows.iter().map(|row| row.output.logits.first().copied().unwrap_or(f32::NEG_INFINITY)).collect();
        ranking.scores.or(lease.model().scoring()).unwrap_or(embral::Scores::Sigmoid).apply(&mut scores);
        let mut ranked: Vec<Ranked> =
            scores.into_iter().enumerate().map(|(index, score)| Ranked { index, score }).collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        ranked.truncate(ranking.top_n.unwrap_or(usize::MAX));
        Ok((ranked, computed))
    }
}

/// How documents are ranked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ranking {
    pub(crate) truncation: Option<Truncation>,
    /// How scores are made of logits; none as the model does.
    pub(crate) scores: Option<embral::Scores>,
    pub(crate) top_n: Option<usize>,
}

/// A document by its place in the request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ranked {
    pub(crate) index: usize,
    pub(crate) score: f32,
}
