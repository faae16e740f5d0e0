//! The vectors in memory: those used last, up to a number of bytes.

use super::key::Key;
use lru::LruCache;

/// Bytes that an entry takes beside its vector: key, two links, hash and the allocation.
const OVERHEAD: usize = 112;

pub(crate) struct Memory {
    entries: LruCache<Key, Box<[f32]>>,
    bytes: usize,
    limit: usize,
}

impl Memory {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: LruCache::unbounded(), bytes: 0, limit }
    }

    pub(crate) fn get(&mut self, key: &Key) -> Option<&[f32]> {
        self.entries.get(key).map(AsRef::as_ref)
    }

    pub(crate) fn put(&mut self, key: Key, row: &[f32]) {
        let size = |row: &[f32]| size_of_val(row) + OVERHEAD;
        if size(row) > self.limit {
            return;
        }
        self.bytes += size(row);
        if let Some(before) = self.entries.put(key, row.into()) {
            self.bytes -= size(&before);
        }
        while self.bytes > self.limit
            && let Some((_, oldest)) = self.entries.pop_lru()
        {
            self.bytes -= size(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first_and_bytes_are_bounded() {
        let key = |n: u8| [n; 32];
        let mut memory = Memory::new(3 * (OVERHEAD + 8));
        for n in 0..3 {
            memory.put(key(n), &[f32::from(n), 1.0]);
        }
        assert_eq!(memory.get(&key(0)), Some(&[0.0, 1.0][..]));
        memory.put(key(3), &[3.0, 1.0]);
        assert!(memory.get(&key(1)).is_none() && memory.get(&key(0)).is_some());
        memory.put(key(0), &[9.0, 1.0]);
        assert_eq!(memory.get(&key(0)), Some(&[9.0, 1.0][..]));
        memory.put(key(4), &[0.0; 500]);
        assert!(memory.get(&key(4)).is_none() && memory.get(&key(0)).is_some());
        assert!(memory.bytes <= memory.limit && memory.entries.len() == 3);
    }

    #[test]
    fn no_room_keeps_nothing() {
        let mut memory = Memory::new(0);
        memory.put([1; 32], &[1.0]);
        assert!(memory.get(&[1; 32]).is_none());
    }
}
