//! Activation buffers that are used again.

use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of idle buffers that are kept for the next batch; what a rare large batch needed beyond it is given back.
const KEPT_BYTES: usize = 256 << 20;

/// Activations start at a line of the cache: a vector that straddles two costs the matrix product 2 %.
const LINE: usize = 64;

/// Idle buffers.
#[derive(Default)]
pub(crate) struct Arena {
    idle: Mutex<Vec<Vec<f32>>>,
}

impl Arena {
    /// The idle buffer that fits best, or a new one; its contents are whatever was there.
    pub(crate) fn take(self: &Arc<Self>, rows: usize, width: usize) -> Buffer {
        let len = rows * width;
        let room = len + LINE / size_of::<f32>();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fit = (0..idle.len()).filter(|&i| idle[i].len() >= room).min_by_key(|&i| idle[i].len());
        // Where none fits, the largest makes way for the new one.
        let largest = || (0..idle.len()).max_by_key(|&i| idle[i].len());
        let taken = fit.or_else(largest).map(|i| idle.swap_remove(i)).filter(|data| data.len() >= room);
        drop(idle);
        let data = taken.unwrap_or_else(|| vec![0.0; room]);
        let start = data.as_ptr().align_offset(LINE).min(room - len);
        Buffer { data, start, rows, width, arena: Arc::clone(self) }
    }

    fn give(&self, data: Vec<f32>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = idle.iter().map(|b| size_of_val(&b[..])).sum();
        if kept + size_of_val(&data[..]) <= KEPT_BYTES {
            idle.push(data);
        }
    }
}

/// Activations, `[rows, width]` row-major. Goes back to its arena when dropped.
pub struct Buffer {
    /// Longer than `rows * width`, so that a reused one need not be filled, and so that `start` can be aligned.
    data: Vec<f32>,
    start: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    arena: Arc<Arena>,
}

impl Buffer {
    pub(crate) fn values(&self) -> &[f32] {
        &self.data[self.start..][..self.rows * self.width]
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..][..self.rows * self.width]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.arena.give(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_taken_again() {
        let arena = Arc::new(Arena::default());
        let first = arena.take(8, 16);
        let address = first.values().as_ptr();
        assert_eq!(address.align_offset(LINE), 0);
        drop(first);
        let second = arena.take(4, 16);
        assert_eq!((second.values().as_ptr(), second.values().len()), (address, 64));
        let third = arena.take(1, 1);
        assert_ne!(third.values().as_ptr(), address);
        drop((second, third));
        let larger = arena.take(100, 16);
        assert_eq!(larger.values().len(), 1600);
    }
}
