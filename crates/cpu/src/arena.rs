//! Activation buffers that are used again.

use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of idle buffers that are kept for the next batch; what a rare large batch needed beyond it is given back.
const KEPT_BYTES: usize = 256 << 20;

/// Idle buffers.
#[derive(Default)]
pub(crate) struct Arena {
    idle: Mutex<Vec<Vec<f32>>>,
}

impl Arena {
    /// The idle buffer that fits best, or a new one; its contents are whatever was there.
    pub(crate) fn take(self: &Arc<Self>, rows: usize, width: usize) -> Buffer {
        let len = rows * width;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fit = (0..idle.len()).filter(|&i| idle[i].capacity() >= len).min_by_key(|&i| idle[i].capacity());
        let mut data = match fit.or_else(|| (0..idle.len()).max_by_key(|&i| idle[i].capacity())) {
            Some(i) => idle.swap_remove(i),
            None => Vec::new(),
        };
        drop(idle);
        if data.capacity() < len {
            data = Vec::with_capacity(len);
        }
        data.resize(len, 0.0);
        Buffer { data, rows, width, arena: Arc::clone(self) }
    }

    fn give(&self, data: Vec<f32>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = idle.iter().map(|b| b.capacity() * 4).sum();
        if kept + data.capacity() * 4 <= KEPT_BYTES {
            idle.push(data);
        }
    }
}

/// Activations, `[rows, width]` row-major. Goes back to its arena when dropped.
pub struct Buffer {
    pub(crate) data: Vec<f32>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    arena: Arc<Arena>,
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
        let address = first.data.as_ptr();
        drop(first);
        let second = arena.take(4, 16);
        assert_eq!((second.data.as_ptr(), second.data.len()), (address, 64));
        let third = arena.take(1, 1);
        assert_ne!(third.data.as_ptr(), address);
    }
}
