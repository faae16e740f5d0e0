//! The pieces of a WordPiece vocabulary: one buffer of text and one open-addressed table.

use std::hash::{BuildHasher, RandomState};

/// Marks a slot whose piece continues a word: its text is compared without the continuation prefix.
const INSIDE: u32 = 1 << 31;
const EMPTY: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(crate) struct Vocabulary {
    text: String,
    /// In the order of the ids.
    pieces: Vec<Piece>,
    /// A power of two of them; at most half are taken. `.0` is the upper half of the hash, `.1` an index into `pieces`.
    slots: Vec<(u32, u32)>,
    /// Length of the continuation prefix in bytes.
    prefix: usize,
    /// The longest piece in bytes, at the start of a word and inside of one.
    longest: [usize; 2],
    /// Differs from process to process, so that no file can be made to collide.
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u32,
    end: u32,
    id: u32,
}

impl Vocabulary {
    /// Takes pieces and their ids; of equal pieces the last counts. Nothing where they are too many or too long for 32 bits.
    pub(crate) fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)> + Clone, prefix: &str) -> Option<Self> {
        let bytes: usize = tokens.clone().map(|(t, _)| t.len()).sum();
        let count = tokens.clone().count();
        if bytes >= EMPTY as usize || count >= INSIDE as usize / 4 {
            return None;
        }
        let mut text = String::with_capacity(bytes);
        let mut pieces = Vec::with_capacity(count);
        for (token, id) in tokens {
            let start = text.len() as u32;
            text.push_str(token);
            pieces.push(Piece { start, end: text.len() as u32, id });
        }
        let inside = pieces.iter().filter(|p| text[p.start as usize..p.end as usize].starts_with(prefix)).count();
        let slots = vec![(0, EMPTY); ((pieces.len() + inside) * 2).next_power_of_two()];
        let seed = RandomState::new().hash_one(0u8);
        let mut new = Self { text, pieces, slots, prefix: prefix.len(), longest: [0; 2], seed };
        for index in 0..new.pieces.len() as u32 {
            new.insert(index);
            let piece = new.pieces[index as usize];
            if new.text[piece.start as usize..piece.end as usize].starts_with(prefix) {
                new.insert(index | INSIDE);
            }
        }
        new.sort();
        Some(new)
    }

    /// Orders the pieces by id and lets the slots follow; files have them in order, as a rule.
    fn sort(&mut self) {
        if self.pieces.is_sorted_by_key(|p| p.id) {
            return;
        }
        let mut order: Vec<u32> = (0..self.pieces.len() as u32).collect();
        order.sort_by_key(|&i| self.pieces[i as usize].id);
        let mut place = vec![0u32; order.len()];
        for (new, &old) in order.iter().enumerate() {
            place[old as usize] = new as u32;
        }
        self.pieces = order.iter().map(|&old| self.pieces[old as usize]).collect();
        for (_, index) in self.slots.iter_mut().filter(|s| s.1 != EMPTY) {
            *index = place[(*index & !INSIDE) as usize] | (*index & INSIDE);
        }
    }

    fn insert(&mut self, index: u32) {
        let inside = index & INSIDE != 0;
        let piece = self.pieces[(index & !INSIDE) as usize];
        let start = piece.start as usize + if inside { self.prefix } else { 0 };
        let key = &self.text.as_bytes()[start..piece.end as usize];
        let hash = hash(self.seed, key, inside);
        self.longest[usize::from(inside)] = self.longest[usize::from(inside)].max(key.len());
        let slot = self.slot(hash, key, inside);
        self.slots[slot] = ((hash >> 32) as u32, index);
    }

    /// The slot that holds `key`, or the free one where it belongs.
    fn slot(&self, hash: u64, key: &[u8], inside: bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let (tag, index) = self.slots[at];
            if index == EMPTY || tag == (hash >> 32) as u32 && self.key(index) == (key, inside) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    fn key(&self, index: u32) -> (&[u8], bool) {
        let inside = index & INSIDE != 0;
        let piece = self.pieces[(index & !INSIDE) as usize];
        let start = piece.start as usize + if inside { self.prefix } else { 0 };
        (&self.text.as_bytes()[start..piece.end as usize], inside)
    }

    fn find(&self, key: &[u8], inside: bool) -> Option<u32> {
        let (_, index) = self.slots[self.slot(hash(self.seed, key, inside), key, inside)];
        (index != EMPTY).then(|| self.pieces[(index & !INSIDE) as usize].id)
    }

    /// The longest piece that `word` starts with, at the start or inside of a word: its id and its length in bytes.
    /// `word` is not empty.
    pub(crate) fn longest(&self, word: &str, inside: bool) -> Option<(u32, usize)> {
        let mut end = word.floor_char_boundary(self.longest[usize::from(inside)]);
        while end > 0 {
            if let Some(id) = self.find(&word.as_bytes()[..end], inside) {
                return Some((id, end));
            }
            end = word.floor_char_boundary(end - 1);
        }
        None
    }

    /// The id of a piece as it stands in the file.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.find(token.as_bytes(), false)
    }

    /// The piece of an id.
    pub(crate) fn token(&self, id: u32) -> Option<&str> {
        let at = self.pieces.binary_search_by_key(&id, |p| p.id).ok()?;
        let piece = self.pieces[at];
        Some(&self.text[piece.start as usize..piece.end as usize])
    }

    /// The pieces in the order of their ids.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().map(|p| &self.text[p.start as usize..p.end as usize])
    }

    /// One more than the largest id.
    pub(crate) fn size(&self) -> usize {
        self.pieces.last().map_or(0, |p| p.id as usize + 1)
    }
}

/// Folded 64 x 64 -> 128 bit multiplication over words of 8 bytes, the last one overlapping.
fn hash(seed: u64, key: &[u8], inside: bool) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    }
    fn word(key: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(key[at..at + 8].try_into().expect("eight bytes"))
    }
    fn half(key: &[u8], at: usize) -> u64 {
        u64::from(u32::from_le_bytes(key[at..at + 4].try_into().expect("four bytes")))
    }
    let n = key.len();
    let mut state = seed ^ (n as u64) << 1 ^ u64::from(inside);
    let tail = match n {
        0 => 0,
        1..4 => u64::from(key[0]) | u64::from(key[n / 2]) << 8 | u64::from(key[n - 1]) << 16,
        4..8 => half(key, 0) | half(key, n - 4) << 32,
        _ => {
            let mut at = 0;
            while at + 8 < n {
                state = fold(state ^ word(key, at), ODD);
                at += 8;
            }
            word(key, n - 8)
        }
    };
    fold(fold(state ^ tail, ODD) ^ seed, ODD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_at_their_place_only() {
        let tokens = [("un", 5), ("##able", 3), ("unable", 4), ("##a", 9), ("é", 7), ("un", 6)];
        let v = Vocabulary::new(tokens.iter().copied(), "##").unwrap();
        assert_eq!(v.longest("unable", false), Some((4, 6)));
        assert_eq!(v.longest("unabl", false), Some((6, 2)));
        assert_eq!(v.longest("able", true), Some((3, 4)));
        assert_eq!(v.longest("ab", true), Some((9, 1)));
        assert_eq!(v.longest("able", false), None);
        assert_eq!(v.longest("éa", false), Some((7, 2)));
        assert_eq!((v.id("##able"), v.id("able"), v.size()), (Some(3), None, 10));
        assert_eq!((v.token(3), v.token(8)), (Some("##able"), None));
        assert!(Vocabulary::new([].iter().copied(), "##").unwrap().longest("a", false).is_none());
    }

    #[test]
    fn every_length_has_its_own_hash() {
        let key = [0u8; 40];
        let hashes: std::collections::HashSet<u64> = (0..40).map(|n| hash(1, &key[..n], false)).collect();
        assert_eq!(hashes.len(), 40);
    }
}
