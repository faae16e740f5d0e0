//! One mutable buffer shared out among tasks.

use crate::Pool;
use std::marker::PhantomData;

/// Values one task of a simple op works on at least: enough to be worth a claim, few enough to stay in the first cache.
pub(crate) const GRAIN: usize = 8192;

/// A mutable slice that several threads write, each to parts of its own.
pub(crate) struct Parts<'a> {
    start: *mut f32,
    len: usize,
    of: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a `&mut [f32]` whose parts are handed out by `get`, and who calls that promises that they are disjoint.
unsafe impl Sync for Parts<'_> {}

impl<'a> Parts<'a> {
    pub(crate) fn new(all: &'a mut [f32]) -> Self {
        Self { start: all.as_mut_ptr(), len: all.len(), of: PhantomData }
    }

    /// `len` values from `start` on.
    ///
    /// # Safety
    /// While the result lives, no other part that overlaps it does.
    ///
    /// # Panics
    /// Where the buffer does not have them.
    #[allow(clippy::mut_from_ref, reason = "the caller keeps parts disjoint")]
    #[inline]
    pub(crate) unsafe fn get(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start <= self.len && len <= self.len - start, "part {start} + {len} of {}", self.len);
        // SAFETY: within the slice this was made from, by the assertion; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

impl Parts<'_> {
    /// Where `columns` values of `rows` rows that are `stride` apart begin, at value `first`. Nobody else may use them while the
    /// caller writes there.
    ///
    /// # Panics
    /// Where the buffer does not have them, or there is no row.
    #[inline]
    pub(crate) fn rows(&self, first: usize, stride: usize, rows: usize, columns: usize) -> *mut f32 {
        let end = first + (rows - 1) * stride + columns;
        assert!(rows > 0 && end <= self.len, "{rows} rows of {columns} from {first} on, in {}", self.len);
        self.start.wrapping_add(first)
    }
}

/// Calls `f(first, rows)` for blocks of whole rows of `out`, `[_, width]`, in parallel. A block has about [`GRAIN`] values, a row
/// counting for `cost` times its width.
pub(crate) fn split_rows(
    pool: &Pool,
    out: &mut [f32],
    width: usize,
    cost: usize,
    f: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    if out.is_empty() {
        return;
    }
    let rows = out.len() / width;
    let block = (GRAIN / (width * cost.max(1))).clamp(1, rows);
    let parts = Parts::new(out);
    pool.run(rows.div_ceil(block), &|task| {
        let first = task * block;
        let count = block.min(rows - first);
        // SAFETY: each task has rows of its own, and the pool runs each task once.
        let part = unsafe { parts.get(first * width, count * width) };
        f(first, part);
    });
}
