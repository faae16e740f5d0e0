//! Working memory of a thread, kept between calls.

use std::cell::Cell;

/// A cache line, so that buffers are aligned for the widest vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; LINE]);

/// Values in a cache line.
pub(crate) const LINE: usize = 16;

/// More than this is given back after use: 8 MiB, what a head of 20,000 tokens takes.
const KEPT_LINES: usize = 1 << 17;

/// `len` values, aligned to a cache line. What they hold is whatever was there.
#[derive(Default)]
pub(crate) struct Buffer(Vec<Line>);

impl Buffer {
    /// A buffer of `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        Self(vec![Line([0.0; LINE]); len.div_ceil(LINE)])
    }

    /// At least `len` values; those that are new are 0.
    pub(crate) fn at_least(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(LINE);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; LINE]));
        }
        &mut self.as_mut_slice()[..len]
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: a `Line` is 16 values without padding, so that the lines are one run of values.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as in `as_slice`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }
}

/// What a thread keeps: a buffer and what is in it.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The memory.
    pub(crate) buffer: Buffer,
    /// Who filled it with what: the number of the call (0 for nobody) and of the block.
    pub(crate) holds: (u64, usize),
}

thread_local! {
    static SCRATCH: Cell<Option<Scratch>> = const { Cell::new(None) };
}

/// Calls `f` with the memory of this thread.
pub(crate) fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take().unwrap_or_default();
    let result = f(&mut scratch);
    if scratch.buffer.0.len() <= KEPT_LINES {
        SCRATCH.set(Some(scratch));
    }
    result
}
