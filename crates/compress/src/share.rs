//! Sharing disjoint pieces of work out among the threads of a pool, without a reduction between them: every piece is written by one
//! task alone, so that results do not depend on the number of threads.

use embral_kernels::Pool;
use std::sync::{Mutex, PoisonError};

/// Calls `work` once with each part, on the threads of `pool`.
pub(crate) fn each<P: Send>(pool: &Pool, parts: impl IntoIterator<Item = P>, work: impl Fn(usize, P) + Sync) {
    let parts: Vec<Mutex<Option<P>>> = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
    pool.run(parts.len(), &|task| {
        let part = parts[task].lock().unwrap_or_else(PoisonError::into_inner).take();
        work(task, part.expect("a pool runs each task once"));
    });
}

/// As [`each`], collecting what `work` returns in the order of the parts.
pub(crate) fn map<P: Send, R: Send>(
    pool: &Pool,
    parts: impl IntoIterator<Item = P>,
    work: impl Fn(P) -> R + Sync,
) -> Vec<R> {
    let parts: Vec<P> = parts.into_iter().collect();
    let mut results: Vec<Option<R>> = parts.iter().map(|_| None).collect();
    each(pool, parts.into_iter().zip(&mut results), |_, (part, result)| *result = Some(work(part)));
    results.into_iter().map(|r| r.expect("a pool runs each task")).collect()
}

#[cfg(test)]
mod tests {
    use embral_kernels::Pool;

    #[test]
    fn results_come_in_order() {
        let squares = super::map(&Pool::shared(Some(2)), 0..100u64, |n| n * n);
        assert_eq!(squares, (0..100).map(|n| n * n).collect::<Vec<u64>>());
    }
}
