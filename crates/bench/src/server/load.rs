//! The run: a probe, a warm-up, and what is measured.

use super::{
    Options,
    client::{Aim, Client, Target},
    figures::{Arrivals, Spread},
    memory::{self, Memory, Sample},
    plan::{Make, Plan},
    report::{Around, Report},
    tally::{Judge, Tally, excerpt},
};
use embral::{Error, ErrorKind, Result};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, mpsc},
    task::{JoinSet, LocalSet, spawn_local},
};

/// A client of the closed loop that was refused, or found no connection, waits so long: without it the server would do nothing but refuse.
const PAUSE: Duration = Duration::from_millis(20);
/// Memory is looked at so often in a run, at most once a second.
const SAMPLES: f64 = 100.0;

/// Asks for one answer of each kind, warms up, and measures.
///
/// # Errors
/// Where the options make no sense, the address is not of this machine and that is not allowed, or the server does not answer the first
/// requests, one of each kind, as it must. What goes wrong later is in the report.
pub fn run(options: &Options, texts: &[String]) -> Result<Report> {
    options.check(texts.len())?;
    let mut target = Target::new(&Aim {
        url: &options.url,
        allow_remote: options.allow_remote,
        api_key: options.api_key.as_deref(),
        priority: options.priority.as_deref(),
        timeout: options.timeout,
    })?;
    let (mix, batch) = options.mix();
    let make = Make {
        dialect: options.dialect,
        texts,
        batch,
        model: options.model.as_deref(),
        rerank_model: options.rerank_model.as_deref(),
    };
    let plan = Plan::new(&make, mix, options.seed)?;
    target.prepare(&plan.items)?;
    options.pid.map(memory::rss).transpose()?;
    let judge = Judge::new(options.dialect, options.exact, plan.slots);
    let run = Run { plan, target, judge: RefCell::new(judge), tally: RefCell::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::new(ErrorKind::Io, "cannot wait for sockets").because(e))?;
    LocalSet::new().block_on(&runtime, measure(Rc::new(run), options))
}

/// What every client of a run shares.
struct Run {
    plan: Plan,
    target: Target,
    judge: RefCell<Judge>,
    tally: RefCell<Tally>,
}

async fn measure(run: Rc<Run>, options: &Options) -> Result<Report> {
    let mut clients: Vec<Client> = (0..options.clients).map(|_| Client::default()).collect();
    probe(&run, &mut clients[0], options).await?;
    if options.warm_up > 0.0 {
        let warm_up = Phase { seconds: options.warm_up, requests: u64::MAX, seed: options.seed ^ 1 << 63 };
        phase(&run, &mut clients, options, &warm_up).await;
        run.tally.take();
    }
    let memory = options.pid.map(|pid| Rc::new(RefCell::new(Memory { pid, samples: Vec::new(), gone: false })));
    let (start, cpu) = (Instant::now(), memory::own_cpu());
    let watch =
        memory.as_ref().map(|memory| spawn_local(watch(Rc::clone(&run), Rc::clone(memory), start, options.seconds)));
    let measured = Phase { seconds: options.seconds, requests: options.requests, seed: options.seed };
    phase(&run, &mut clients, options, &measured).await;
    let seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = cpu.zip(memory::own_cpu()).map(|(before, after)| after - before);
    if let Some(watch) = watch {
        watch.abort();
    }
    let memory = memory.map(|memory| {
        look(&run, &memory, start);
        memory.borrow().clone()
    });
    let mut tally = run.tally.take();
    let late = Spread::of(std::mem::take(&mut tally.late));
    Ok(Report::new(options, &tally, &run.judge.borrow(), Around { seconds, cpu_seconds, memory, late }))
}

/// One answer of each kind, before any load: what is wrong from the start is said as such.
async fn probe(run: &Run, client: &mut Client, options: &Options) -> Result<()> {
    for item in run.plan.probes() {
        let reply = client.ask(&run.target, item, Judge::reads(item)).await.map_err(|how| {
            let message = format!("the server at {} did not answer: {}", options.url, how.name());
            Error::new(ErrorKind::Network, message).hint("is it running, and is that its port?")
        })?;
        let mut judge = run.judge.borrow_mut();
        if judge.accepts(item, reply, &client.body, true) {
            continue;
        }
        let hint = match reply.status {
            401 | 403 => "--api-key sends a key",
            _ if options.model.is_none() => "--dialect says what the server speaks, --model names its model",
            _ => "--dialect says what the server speaks",
        };
        let message = match judge.wrongs.first() {
            Some(wrong) => wrong.clone(),
            None => format!("{} {}: status {}: {}", item.method, item.path, reply.status, excerpt(&client.body)),
        };
        return Err(Error::new(ErrorKind::Network, message).hint(hint));
    }
    Ok(())
}

/// A stretch of requests.
struct Phase {
    seconds: f64,
    requests: u64,
    seed: u64,
}

/// Sends requests by all clients until the time or the requests are over, and waits for the answers.
async fn phase(run: &Rc<Run>, clients: &mut Vec<Client>, options: &Options, phase: &Phase) {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(phase.seconds);
    let mut working = JoinSet::new();
    match options.rate {
        None => {
            let left = Rc::new(Cell::new(phase.requests));
            for client in clients.drain(..) {
                working.spawn_local(closed(Rc::clone(run), client, Rc::clone(&left), end));
            }
        }
        Some(rate) => {
            let feed = Feed::start(Arrivals::new(rate, phase.seed), start, phase);
            let due = Rc::new(Mutex::new(feed.due));
            let last = end + options.timeout;
            for client in clients.drain(..) {
                working.spawn_local(open(Rc::clone(run), client, Rc::clone(&due), last));
            }
            join(&mut working, clients).await;
            // All of its arrivals were taken, so it has ended.
            let _ = feed.thread.join();
        }
    }
    join(&mut working, clients).await;
}

async fn join(working: &mut JoinSet<Client>, clients: &mut Vec<Client>) {
    while let Some(client) = working.join_next().await {
        clients.push(client.expect("no client panics, and none is stopped"));
    }
}

/// One request after the other.
async fn closed(run: Rc<Run>, mut client: Client, left: Rc<Cell<u64>>, end: Instant) -> Client {
    loop {
        let start = Instant::now();
        if start >= end || left.get() == 0 {
            return client;
        }
        left.set(left.get() - 1);
        if !run.ask(&mut client, start).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The next request that is due.
async fn open(
    run: Rc<Run>,
    mut client: Client,
    due: Rc<Mutex<mpsc::UnboundedReceiver<Instant>>>,
    last: Instant,
) -> Client {
    loop {
        let next = due.lock().await.recv().await;
        let Some(at) = next else { return client };
        let now = Instant::now();
        if now > last {
            run.tally.borrow_mut().unsent += 1;
            continue;
        }
        run.tally.borrow_mut().late.push(micros(now - at));
        run.ask(&mut client, at).await;
    }
}

impl Run {
    /// Sends the next request and keeps what came back; its time runs from `start`. False where the server is to be left alone for a
    /// moment: it refused, or there was no connection.
    async fn ask(&self, client: &mut Client, start: Instant) -> bool {
        let item = self.plan.next();
        let whole = Judge::reads(item);
        match client.ask(&self.target, item, whole).await {
            Ok(reply) => {
                let took = micros(start.elapsed());
                let good = self.judge.borrow_mut().accepts(item, reply, &client.body, whole);
                self.tally.borrow_mut().answered(item, reply.status, good, took);
                !matches!(reply.status, 429 | 503)
            }
            Err(how) => {
                self.tally.borrow_mut().broke(item, how);
                false
            }
        }
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Arrivals as they are due. They come from a thread of their own, which sleeps to within 0.1 ms; the timer of the runtime is rounded
/// up to whole milliseconds, which is as long as a short request takes.
struct Feed {
    due: mpsc::UnboundedReceiver<Instant>,
    thread: JoinHandle<()>,
}

impl Feed {
    fn start(arrivals: Arrivals, start: Instant, phase: &Phase) -> Self {
        let (send, due) = mpsc::unbounded_channel();
        let (seconds, requests) = (phase.seconds, usize::try_from(phase.requests).unwrap_or(usize::MAX));
        let thread = thread::spawn(move || {
            for at in arrivals.take_while(|at| *at < seconds).take(requests) {
                let at = start + Duration::from_secs_f64(at);
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if send.send(at).is_err() {
                    return;
                }
            }
        });
        Self { due, thread }
    }
}

/// Looks at the memory of the server, over and over.
async fn watch(run: Rc<Run>, memory: Rc<RefCell<Memory>>, start: Instant, seconds: f64) {
    loop {
        look(&run, &memory, start);
        tokio::time::sleep(Duration::from_secs_f64((seconds / SAMPLES).max(1.0))).await;
    }
}

fn look(run: &Run, memory: &RefCell<Memory>, start: Instant) {
    let mut memory = memory.borrow_mut();
    match memory::rss(memory.pid) {
        Ok(rss_bytes) => {
            let (seconds, requests) = (start.elapsed().as_secs_f64(), run.tally.borrow().ended);
            memory.samples.push(Sample { seconds, requests, rss_bytes });
        }
        Err(_) => memory.gone = true,
    }
}
