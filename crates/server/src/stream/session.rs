//! One stream, whatever carries it: text to chunks, chunks through the queue of the model, vectors out in order.

use super::{Broken, Heard, Lines, Open, line::Head, line::Part, outgoing::Outgoing, stopping};
use crate::{
    app::App,
    body::Taken,
    caller::Caller,
    dialect::native::{Encoded, Encoder, prompting},
    failure::{Failure, Kind},
    models::Lease,
    pipeline::{Computed, Prompting, Timings},
};
use embral::{
    Truncation,
    chunk::{Aggregate, Aggregation, Growing, ReadyChunk},
    serving::{Input, Reading, Sequence, ServedModel, Wanted},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use serde::Serialize;
use std::{
    collections::VecDeque,
    ops::Range,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Chunks that are with the model at once: enough for a batch, few enough that a client that leaves has had little computed in vain.
const FLYING: usize = 8;
/// Text is cut so many bytes at a time, so that few chunks wait however long a line is.
const CUT_BYTES: usize = 4 << 10;

/// What is to be done with the text, in order.
enum Step {
    Text(String),
    Flush,
    End,
}

/// A chunk that was cut.
struct Cut {
    bytes: Range<usize>,
    tokens: usize,
    sequence: Sequence,
    tokenize: Duration,
}

/// A chunk with its vector.
struct Ready {
    bytes: Range<usize>,
    tokens: usize,
    vector: Vec<f32>,
}

/// What a thread that cut gives back. The text is gone behind its end.
type Cutting = (Option<Growing>, Result<Vec<Cut>, Failure>);

/// How chunks are read.
struct How {
    model: Arc<ServedModel>,
    prompt: Prompting,
    wanted: Wanted,
}

/// A stream from its first line on.
pub(super) struct Session {
    app: Arc<App>,
    _open: Open,
    caller: Caller,
    lease: Arc<Lease>,
    how: Arc<How>,
    encoder: Encoder,
    normalize: bool,
    aggregation: Option<Aggregation>,
    /// Nothing while a thread cuts, and behind the end.
    growing: Option<Growing>,
    steps: VecDeque<Step>,
    cutting: Option<JoinHandle<Cutting>>,
    cut: VecDeque<Cut>,
    flying: FuturesOrdered<BoxFuture<'static, Result<Ready, Failure>>>,
    /// Text that is not cut and vectors that are kept, of the memory of all bodies.
    taken: Taken,
    /// Chunks that were sent to the model.
    begun: usize,
    /// Chunks that were sent to the client, and their tokens.
    sent: usize,
    tokens: usize,
    /// The client has said that no more text comes.
    ended: bool,
}

/// What happens next.
enum Event {
    Left,
    Stopped,
    Ready(Result<Ready, Failure>),
    Cut(Cutting),
    Heard(Heard),
    Rested,
}

#[derive(Serialize)]
struct ChunkLine {
    chunk: ChunkBody,
}

#[derive(Serialize)]
struct ChunkBody {
    index: usize,
    start: usize,
    end: usize,
    tokens: usize,
    #[serde(flatten)]
    vector: Encoded,
}

#[derive(Serialize)]
struct DoneLine {
    done: bool,
    chunks: usize,
    tokens: usize,
    aggregate: Option<Vec<f32>>,
    /// The other forms of the aggregate.
    #[serde(flatten)]
    forms: Encoded,
}

impl Session {
    /// A stream as its first line says.
    pub(super) async fn open(app: &Arc<App>, caller: Caller, head: Head) -> Result<Self, Failure> {
        Self::opened(app, app.open_stream()?, caller, head).await
    }

    /// The same of a stream that is counted already.
    pub(super) async fn opened(app: &Arc<App>, open: Open, caller: Caller, mut head: Head) -> Result<Self, Failure> {
        let mut caller = caller;
        if let Some(priority) = &head.priority {
            caller = caller.with_priority(priority)?;
        }
        if let Some(milliseconds) = head.timeout_ms {
            caller = caller.with_timeout(milliseconds)?;
        }
        let chunking = head.chunking.chunking()?;
        let prompt = prompting(head.input_type.take(), head.prompt.take())?;
        let aggregate = head.aggregate.as_deref().map(str::parse::<Aggregate>).transpose();
        let aggregate = aggregate.map_err(|e| Failure::from(e).of_field("aggregate"))?;
        let lease = Arc::new(app.models.lease(head.model.as_deref()).await?);
        let model = Arc::clone(lease.model());
        let Some(embedder) = model.embedder() else {
            let name = &model.info().name;
            let message = format!("{name} does not cut documents: expected an embedding model of one output");
            return Err(Failure::new(Kind::Unsupported, message).of_field("model"));
        };
        let growing = Growing::new(Arc::clone(embedder), &chunking, prompt.as_prompt())
            .map_err(|e| Failure::from(e).of_field("chunking"))?;
        let wanted = Wanted { dims: head.dimensions, normalize: head.normalize, ..Wanted::default() };
        let encoder = Encoder::new(std::mem::take(&mut head.encodings), &model, prompt.as_prompt(), head.dimensions)?;
        let shortened = head.dimensions.is_some_and(|dims| dims < model.info().dimensions);
        let normalize = head.normalize.unwrap_or(model.info().normalize || shortened);
        let how = How { model, prompt, wanted };
        // What cannot be had of the model is said before any text comes.
        how.read("")?;
        let mut session = Self {
            app: Arc::clone(app),
            _open: open,
            caller,
            lease,
            how: Arc::new(how),
            encoder,
            normalize,
            aggregation: aggregate.map(Aggregation::new),
            growing: Some(growing),
            steps: VecDeque::new(),
            cutting: None,
            cut: VecDeque::new(),
            flying: FuturesOrdered::new(),
            taken: Taken::new(&app.bodies.room),
            begun: 0,
            sent: 0,
            tokens: 0,
            ended: false,
        };
        session.put(head.take_part())?;
        Ok(session)
    }

    /// Talks with its client to the end.
    pub(super) async fn run(mut self, lines: &mut impl Lines, out: &Outgoing) -> Result<(), Broken> {
        let app = Arc::clone(&self.app);
        let mut stopped = pin!(app.streams.stopped());
        let (mut heard_all, mut stops) = (false, false);
        loop {
            self.go_on();
            if self.is_done() {
                if stops {
                    return Err(stopping().into());
                }
                // What was said behind the end, where it is here already, is not passed over.
                if !heard_all && let Some(Heard::Line(line)) = lines.next(false).now_or_never() {
                    self.put(Part::parse(&line)?)?;
                }
                return self.finish(out).await;
            }
            let idle = self.steps.is_empty() && self.cutting.is_none() && self.cut.is_empty();
            let rest = if idle { app.limiter.until_tokens(self.caller.tenant, app.begin.elapsed()) } else { None };
            let listens = idle && !heard_all && !stops && rest.is_none();
            let awaited = !self.ended && self.flying.is_empty();
            let event = tokio::select! {
                biased;
                () = out.closed() => Event::Left,
                () = &mut stopped, if !stops => Event::Stopped,
                Some(ready) = self.flying.next() => Event::Ready(ready),
                cut = joined(&mut self.cutting) => Event::Cut(cut),
                heard = lines.next(awaited), if listens => Event::Heard(heard),
                () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => Event::Rested,
            };
            match event {
                Event::Left | Event::Heard(Heard::Gone) => return Err(Broken::Gone),
                Event::Ready(ready) => self.send(ready?, out).await?,
                Event::Cut((growing, cut)) => {
                    (self.growing, self.cutting) = (growing, None);
                    self.cut.extend(cut?);
                    self.account()?;
                }
                // What is with the model still comes; nothing else does.
                Event::Stopped => {
                    (stops, self.ended) = (true, true);
                    (self.cutting, self.growing) = (None, None);
                    self.steps.clear();
                    self.cut.clear();
                }
                Event::Heard(Heard::Line(line)) => self.put(Part::parse(&line)?)?,
                Event::Heard(Heard::End) => {
                    heard_all = true;
                    if !self.ended {
                        self.put(Part { end: true, ..Part::default() })?;
                    }
                }
                Event::Heard(Heard::Wrong(failure)) => return Err(failure.into()),
                Event::Rested => {}
            }
        }
    }

    /// Takes what a line says.
    fn put(&mut self, part: Part) -> Result<(), Failure> {
        if self.ended {
            return Err(Failure::invalid("the text has ended: expected nothing behind it"));
        }
        let text = part.text.unwrap_or_default();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.floor_char_boundary(CUT_BYTES));
            self.steps.push_back(Step::Text(piece.to_owned()));
            rest = behind;
        }
        if part.flush {
            self.steps.push_back(Step::Flush);
        }
        if part.end {
            self.steps.push_back(Step::End);
            self.ended = true;
        }
        self.account()
    }

    /// Counts what is held as part of the memory of all bodies.
    fn account(&mut self) -> Result<(), Failure> {
        let text = |step: &Step| if let Step::Text(text) = step { text.len() } else { 0 };
        let kept = self.aggregation.as_ref().map_or(0, Aggregation::held_bytes);
        if kept > self.app.settings.body_limit {
            let message = format!(
                "the vectors of {} chunks are more than {} bytes, and this aggregate needs all of them: mean, max and weighted do not",
                self.sent, self.app.settings.body_limit
            );
            return Err(Failure::new(Kind::TooMany, message).of_field("aggregate"));
        }
        if self.taken.hold(self.steps.iter().map(text).sum::<usize>() + kept) {
            return Ok(());
        }
        let mut failure = Failure::new(Kind::Overloaded, "the bodies of other requests fill the memory for them");
        failure.retry_after = Some(Duration::from_secs(1));
        Err(failure)
    }

    /// Sends chunks to the model, and has more text cut where none waits.
    fn go_on(&mut self) {
        while self.flying.len() < FLYING
            && let Some(cut) = self.cut.pop_front()
        {
            let index = self.begun;
            self.begun += 1;
            let flight = compute(Arc::clone(&self.app), self.caller, Arc::clone(&self.lease), cut);
            self.flying.push_back(flight.map(move |ready| ready.map_err(|failure| failure.of_text(index))).boxed());
        }
        if !self.cut.is_empty() || self.cutting.is_some() {
            return;
        }
        if let Some(mut growing) = self.growing.take() {
            let Some(step) = self.steps.pop_front() else {
                self.growing = Some(growing);
                return;
            };
            let how = Arc::clone(&self.how);
            self.cutting = Some(tokio::task::spawn_blocking(move || {
                let chunks = match step {
                    Step::Text(text) => growing.push(&text),
                    Step::Flush => growing.flush(),
                    Step::End => return (None, how.read_all(growing.finish())),
                };
                (Some(growing), how.read_all(chunks))
            }));
        }
    }

    /// Whether all that was said has been answered, and nothing more will be said.
    fn is_done(&self) -> bool {
        self.ended && self.steps.is_empty() && self.cutting.is_none() && self.cut.is_empty() && self.flying.is_empty()
    }

    async fn send(&mut self, ready: Ready, out: &Outgoing) -> Result<(), Broken> {
        let Ready { bytes, tokens, vector } = ready;
        if let Some(aggregation) = &mut self.aggregation {
            aggregation.push(&vector, tokens);
            self.account()?;
        }
        let (index, vector) = (self.sent, self.encoder.encode(vector)?);
        self.sent += 1;
        self.tokens += tokens;
        let chunk = ChunkBody { index, start: bytes.start, end: bytes.end, tokens, vector };
        out.line(&ChunkLine { chunk }).await
    }

    async fn finish(self, out: &Outgoing) -> Result<(), Broken> {
        let mut forms = match self.aggregation {
            Some(aggregation) => self.encoder.encode(aggregation.finish(self.normalize))?,
            None => Encoded::default(),
        };
        let aggregate = forms.embedding.take();
        out.line(&DoneLine { done: true, chunks: self.sent, tokens: self.tokens, aggregate, forms }).await
    }
}

/// What the thread that cuts gives back; never, where there is none.
async fn joined(cutting: &mut Option<JoinHandle<Cutting>>) -> Cutting {
    match cutting {
        Some(cutting) => {
            cutting.await.unwrap_or_else(|_| (None, Err(Failure::new(Kind::Internal, "the text cannot be cut"))))
        }
        None => std::future::pending().await,
    }
}

/// The vector of a chunk. A queue without room is no failure of a stream: it rests until there is some, and takes no more text meanwhile.
async fn compute(app: Arc<App>, caller: Caller, lease: Arc<Lease>, cut: Cut) -> Result<Ready, Failure> {
    let start = Instant::now();
    let Cut { bytes, tokens, sequence, tokenize } = cut;
    let mut computed = loop {
        let failure = match app.run(&caller, &lease, vec![sequence.clone()]).await {
            Ok(computed) => break computed,
            Err(failure) => failure,
        };
        match failure.retry_after {
            Some(wait) if failure.kind == Kind::Overloaded && start.elapsed() + wait < caller.within => {
                tokio::time::sleep(wait).await;
            }
            _ => return Err(failure),
        }
    };
    computed.timings = Timings { tokenize, ..computed.timings };
    app.metrics.computed(&computed);
    Ok(Ready { bytes, tokens, vector: vector(computed) })
}

fn vector(computed: Computed) -> Vec<f32> {
    computed.rows.into_iter().next().map(|row| row.output.vector).unwrap_or_default()
}

impl How {
    fn read(&self, text: &str) -> Result<Sequence, Failure> {
        // A chunk is never longer than the model takes.
        let (prompt, truncation) = (self.prompt.as_prompt(), Some(Truncation::Right));
        let reading = Reading { prompt, truncation, wanted: self.wanted.clone() };
        Ok(self.model.read(Input::Text(text), &reading)?)
    }

    fn read_all(&self, chunks: embral::Result<Vec<ReadyChunk>>) -> Result<Vec<Cut>, Failure> {
        let one = |chunk: ReadyChunk| {
            let start = Instant::now();
            let sequence = self.read(&chunk.text)?;
            Ok(Cut { bytes: chunk.bytes, tokens: chunk.tokens, sequence, tokenize: start.elapsed() })
        };
        chunks?.into_iter().map(one).collect()
    }
}
