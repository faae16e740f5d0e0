//! Fork and join over a fixed set of threads, in microseconds and without allocation.
//!
//! A run is published in one atomic word, `state`: `epoch << 32 | OPEN | WAITING | joined`. A worker that sees an open run of an
//! epoch it has not worked on joins it by compare-and-swap; only a joined worker reads the job. The caller works too, closes the
//! run when every task is claimed, and returns when `joined` is 0 again; a worker that wakes late finds the run closed and
//! delays nobody.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// The run takes workers.
const OPEN: u64 = 1 << 31;
/// The caller sleeps until the last worker has left.
const WAITING: u64 = 1 << 30;
/// The workers inside the run.
const JOINED: u64 = WAITING - 1;
/// How long a worker looks for the next run while a [`Busy`] guard lives, and how long a caller waits before it sleeps: longer
/// than the single-threaded stretch between two kernels of a forward pass, shorter than anybody notices.
const SPIN: Duration = Duration::from_micros(50);

type Task = dyn Fn(usize) + Sync + 'static;

thread_local! {
    /// Whether this thread is inside a task of some pool.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A fixed set of threads that share the tasks of one call at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Whether somebody has the right to one thread more.
    beside: AtomicBool,
}

/// The right to one thread beside those of a pool, for as long as it lives.
pub struct Beside<'a>(&'a AtomicBool);

/// While one is alive, the workers of the pool may spin for a moment between runs instead of sleeping at once.
pub struct Busy<'a>(&'a Shared);

struct Shared {
    state: AtomicU64,
    /// What the open run does; written by the caller that owns the pool while nobody is joined.
    job: UnsafeCell<Option<Job>>,
    next: AtomicUsize,
    owned: AtomicBool,
    busy: AtomicUsize,
    stop: AtomicBool,
    sleepers: Vec<Sleeper>,
    left: (Mutex<()>, Condvar),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Job {
    task: *const Task,
    tasks: usize,
}

struct Sleeper {
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

// SAFETY: `job` is the only field that is not Sync by itself. It is written only by the thread that holds `owned`, while the
// run is closed and nobody is joined, and read only by threads that have joined an open run; `state` orders the two
// (Release by the opening store, Acquire by the join). The task behind the pointer is Sync and outlives the run, because `run`
// does not return while anybody is joined.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of its own with `threads` threads, the caller among them; at least 1.
    pub fn new(threads: usize) -> Self {
        let wanted = threads.max(1) - 1;
        let sleeper = || Sleeper { asleep: AtomicBool::new(false), thread: Mutex::new(None) };
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            owned: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            sleepers: (0..wanted).map(|_| sleeper()).collect(),
            left: (Mutex::new(()), Condvar::new()),
            panic: Mutex::new(None),
        });
        // A system that refuses a thread leaves a smaller pool, which computes the same.
        let workers = (0..wanted)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name(format!("embral-{index}")).spawn(move || shared.work(index)).ok()
            })
            .collect::<Vec<_>>();
        for (worker, sleeper) in workers.iter().zip(&shared.sleepers) {
            *lock(&sleeper.thread) = Some(worker.thread().clone());
        }
        Self { shared, workers, beside: AtomicBool::new(false) }
    }

    /// The pool of this process with `threads` threads; `None` takes `EMBRAL_THREADS`, else what the machine has. It lives as
    /// long as somebody holds it.
    pub fn shared(threads: Option<usize>) -> Arc<Self> {
        static POOLS: Mutex<Vec<(usize, Weak<Pool>)>> = Mutex::new(Vec::new());
        let threads = threads.unwrap_or_else(default_threads).max(1);
        let mut pools = lock(&POOLS);
        if let Some(pool) = pools.iter().find(|(n, _)| *n == threads).and_then(|(_, pool)| pool.upgrade()) {
            return pool;
        }
        let pool = Arc::new(Self::new(threads));
        pools.retain(|(_, pool)| pool.strong_count() > 0);
        pools.push((threads, Arc::downgrade(&pool)));
        pool
    }

    /// The threads that work on a run, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Lets the workers spin for up to 50 µs between runs while the guard lives.
    pub fn busy(&self) -> Busy<'_> {
        self.shared.busy.fetch_add(1, Ordering::Relaxed);
        Busy(&self.shared)
    }

    /// Allows one thread beside those of the pool, for work that goes on while the pool is used: to one caller at a time, so that
    /// callers who are many do not make as many threads, and to none where the pool is its caller alone.
    pub fn beside(&self) -> Option<Beside<'_>> {
        (!self.workers.is_empty() && !self.beside.swap(true, Ordering::Acquire)).then(|| Beside(&self.beside))
    }

    /// Calls `task` once with each of `0..tasks`, on the threads of the pool and on the caller, and returns when all are done.
    ///
    /// Tasks are claimed one after the other in order. Called from within a task, or while another thread uses the pool, it does
    /// everything on the caller.
    ///
    /// # Panics
    /// Where a task panics: with the payload of the first one, after the others have ended. Tasks that had not begun are left out.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        if tasks <= 1 || self.workers.is_empty() || INSIDE.get() || shared.owned.swap(true, Ordering::Acquire) {
            return (0..tasks).for_each(task);
        }
        // SAFETY: only the lifetime is erased; nobody uses the pointer after this function, see `Shared`.
        let task: &'static Task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Task>(task) };
        let job = Job { task, tasks };
        // SAFETY: `owned` was false and is ours, and the run before was closed and left by everybody before it was given back.
        unsafe {
            *shared.job.get() = Some(job);
        }
        shared.next.store(0, Ordering::Relaxed);
        let epoch = (shared.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared.state.store(epoch << 32 | OPEN, Ordering::SeqCst);
        for sleeper in shared.sleepers.iter().take(tasks - 1) {
            if sleeper.asleep.load(Ordering::SeqCst)
                && sleeper.asleep.swap(false, Ordering::SeqCst)
                && let Some(thread) = &*lock(&sleeper.thread)
            {
                thread.unpark();
            }
        }
        shared.take_part(job);
        shared.close();
        let panic = lock(&shared.panic).take();
        shared.owned.store(false, Ordering::Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its tasks, so that there is no other to report.
            let _ = worker.join();
        }
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Claims tasks until there is none.
    fn take_part(&self, job: Job) {
        INSIDE.set(true);
        // SAFETY: the caller of `run` keeps the task alive until everybody who joined has left, and this thread is the caller or
        // has joined.
        let task = unsafe { &*job.task };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= job.tasks {
                    break;
                }
                task(index);
            }
        }));
        INSIDE.set(false);
        if let Err(payload) = outcome {
            self.next.store(job.tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(payload);
        }
    }

    /// Refuses further workers and waits until those inside have left.
    fn close(&self) {
        let mut state = self.state.fetch_and(!OPEN, Ordering::Acquire);
        let begin = Instant::now();
        while state & JOINED != 0 {
            if begin.elapsed() < SPIN {
                std::hint::spin_loop();
                state = self.state.load(Ordering::Acquire);
                continue;
            }
            let (mutex, left) = &self.left;
            let mut guard = lock(mutex);
            state = self.state.fetch_or(WAITING, Ordering::Acquire);
            while state & JOINED != 0 {
                guard = left.wait(guard).unwrap_or_else(PoisonError::into_inner);
                state = self.state.load(Ordering::Acquire);
            }
        }
    }

    /// The life of a worker.
    fn work(&self, index: usize) {
        let mut seen = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let state = self.state.load(Ordering::SeqCst);
            if state & OPEN == 0 || state >> 32 == seen {
                self.wait(index, seen);
                continue;
            }
            if self.state.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue;
            }
            seen = state >> 32;
            // SAFETY: this thread has joined an open run, so that the job is written and stays until it leaves.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job {
                self.take_part(job);
            }
            let before = self.state.fetch_sub(1, Ordering::Release);
            if before & JOINED == 1 && before & WAITING != 0 {
                drop(lock(&self.left.0));
                self.left.1.notify_one();
            }
        }
    }

    /// Spins while somebody is busy, then sleeps, until there may be a run other than `seen`.
    fn wait(&self, index: usize, seen: u64) {
        let news = || {
            let state = self.state.load(Ordering::SeqCst);
            (state & OPEN != 0 && state >> 32 != seen) || self.stop.load(Ordering::SeqCst)
        };
        let begin = Instant::now();
        while self.busy.load(Ordering::Relaxed) > 0 && begin.elapsed() < SPIN {
            for _ in 0..32 {
                if news() {
                    return;
                }
                std::hint::spin_loop();
            }
        }
        // Either `run` sees the flag and wakes this thread, or this thread sees the run: both sides write, then read, SeqCst.
        let sleeper = &self.sleepers[index];
        sleeper.asleep.store(true, Ordering::SeqCst);
        if !news() {
            thread::park();
        }
        sleeper.asleep.store(false, Ordering::SeqCst);
    }
}

fn default_threads() -> usize {
    let stated = std::env::var("EMBRAL_THREADS").ok().and_then(|n| n.trim().parse().ok()).filter(|&n: &usize| n > 0);
    stated.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Takes a lock that no panic can leave in a bad state: nothing behind these locks is ever half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
