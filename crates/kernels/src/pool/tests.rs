use super::*;
use std::collections::HashSet;
use std::sync::Barrier;

/// Enough runs for threads to meet in every order they can.
const RUNS: usize = if cfg!(miri) { 20 } else { 2_000 };

#[test]
fn every_task_runs_once() {
    for threads in 1..=4 {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads);
        for tasks in [0, 1, 2, 3, 7, 1000] {
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(tasks, &|i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, {tasks} tasks");
        }
    }
}

#[test]
fn what_tasks_wrote_is_seen_by_the_caller() {
    let pool = Pool::new(3);
    let _busy = pool.busy();
    for run in 0..RUNS {
        let cells: Vec<UnsafeCell<usize>> = (0..5).map(|_| UnsafeCell::new(0)).collect();
        struct Cells<'a>(&'a [UnsafeCell<usize>]);
        // SAFETY: each task writes a cell of its own, and the caller reads after the run.
        unsafe impl Sync for Cells<'_> {}
        impl Cells<'_> {
            fn set(&self, i: usize, to: usize) {
                // SAFETY: as above.
                unsafe { *self.0[i].get() = to }
            }
        }
        let shared = Cells(&cells);
        pool.run(5, &|i| shared.set(i, run + i));
        for (i, cell) in cells.into_iter().enumerate() {
            assert_eq!(cell.into_inner(), run + i);
        }
    }
}

#[test]
fn all_threads_take_part() {
    let pool = Pool::new(3);
    let meeting = Barrier::new(3);
    let who = Mutex::new(HashSet::new());
    pool.run(3, &|_| {
        meeting.wait();
        lock(&who).insert(thread::current().id());
    });
    assert_eq!(lock(&who).len(), 3);
}

#[test]
fn one_thread_is_the_caller() {
    let pool = Pool::new(1);
    assert!(pool.workers.is_empty());
    let caller = thread::current().id();
    pool.run(100, &|_| assert_eq!(thread::current().id(), caller));
}

#[test]
fn a_run_within_a_task_is_done_by_that_thread() {
    let pool = Pool::new(2);
    let sum = AtomicUsize::new(0);
    pool.run(4, &|_| {
        let outer = thread::current().id();
        pool.run(5, &|i| {
            assert_eq!(thread::current().id(), outer);
            sum.fetch_add(i, Ordering::Relaxed);
        });
    });
    assert_eq!(sum.into_inner(), 40);
}

#[test]
fn callers_at_the_same_time_all_get_their_work_done() {
    let pool = Pool::new(3);
    thread::scope(|scope| {
        for caller in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let _busy = pool.busy();
                for run in 0..RUNS / 4 {
                    let sum = AtomicUsize::new(0);
                    pool.run(8, &|i| {
                        sum.fetch_add(i * run + caller, Ordering::Relaxed);
                    });
                    assert_eq!(sum.into_inner(), 28 * run + 8 * caller);
                }
            });
        }
    });
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_works_on() {
    let pool = Pool::new(3);
    for bad in [0, 1, 63] {
        let ended = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(64, &|i| {
                assert_ne!(i, bad, "task {i} fails");
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }));
        let payload = outcome.unwrap_err();
        let message = payload.downcast_ref::<String>().unwrap();
        assert!(message.contains(&format!("task {bad} fails")), "{message}");
        assert!(ended.into_inner() < 64);
        let count = AtomicUsize::new(0);
        pool.run(100, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 100);
    }
    assert!(!INSIDE.get() && !pool.shared.owned.load(Ordering::Relaxed));
}

#[test]
fn one_pool_for_each_number_of_threads() {
    let (a, b) = (Pool::shared(Some(2)), Pool::shared(Some(2)));
    assert!(Arc::ptr_eq(&a, &b));
    assert!(!Arc::ptr_eq(&a, &Pool::shared(Some(3))));
    assert_eq!(Pool::shared(Some(0)).threads(), 1);
}

/// The nanoseconds on a processor of the threads that took part in a run, but the caller.
#[cfg(target_os = "linux")]
fn workers_of(pool: &Pool) -> Vec<std::path::PathBuf> {
    let meeting = Barrier::new(pool.threads());
    let found = Mutex::new(Vec::new());
    let caller = thread::current().id();
    pool.run(pool.threads(), &|_| {
        meeting.wait();
        if thread::current().id() != caller {
            let own = std::fs::read_link("/proc/thread-self").expect("Linux has it");
            lock(&found).push(std::path::Path::new("/proc").join(own).join("schedstat"));
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_pool_takes_no_time() {
    let pool = Pool::new(3);
    let workers = workers_of(&pool);
    assert_eq!(workers.len(), 2);
    let used = || {
        let read = |path| std::fs::read_to_string(path).expect("the thread lives");
        workers.iter().map(read).map(|s| s.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)).sum::<u64>()
    };
    let quiet_within = |limit: Duration| {
        let begin = Instant::now();
        let mut before = used();
        loop {
            thread::sleep(Duration::from_millis(20));
            let now = used();
            if now == before {
                return true;
            }
            if begin.elapsed() > limit {
                return false;
            }
            before = now;
        }
    };
    assert!(quiet_within(Duration::from_secs(10)), "the workers sleep after a run");
    let _busy = pool.busy();
    pool.run(100, &|_| ());
    assert!(quiet_within(Duration::from_secs(10)), "and while a guard lives, after their spin");
}

#[test]
fn one_thread_beside_the_pool_is_allowed_at_a_time() {
    let pool = Pool::new(2);
    let first = pool.beside();
    assert!(first.is_some() && pool.beside().is_none());
    drop(first);
    assert!(pool.beside().is_some());
    assert!(Pool::new(1).beside().is_none());
}
