//! Which texts are looked at together.
//!
//! Chance companions have nothing to do with each other, and all similarities in a batch are about 0. So the texts are ordered by a
//! tree of random splits of the teacher's vectors, drawn anew every epoch; a run of neighbours is a leaf, and a batch is made of
//! leaves from all over: near and far companions for everybody.

use super::{corpus::Pair, teacher::Vectors};
use crate::{random::Random, share};
use embral_kernels::Pool;
use std::collections::BTreeMap;

/// Rows projected by one task.
const BLOCK: usize = 8192;

/// Texts whose vectors are compared with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) texts: Vec<u32>,
    /// The second half answers the first, text by text.
    pub(crate) paired: bool,
}

/// What a plan is drawn from.
pub(crate) struct Planner<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) vectors: &'a Vectors,
    /// The texts that have tokens.
    pub(crate) texts: &'a [u32],
    /// The pairs both of whose texts have tokens.
    pub(crate) pairs: &'a [Pair],
    /// Texts in a group.
    pub(crate) batch: usize,
    /// Neighbours taken together.
    pub(crate) leaf: usize,
    /// Pairs of one file used in an epoch.
    pub(crate) pair_limit: usize,
}

impl Planner<'_> {
    /// The groups of one epoch: every text once, and up to `pair_limit` pairs of each file, every query once.
    pub(crate) fn draw(&self, random: &mut Random) -> Vec<Group> {
        let single = self.arranged(self.texts.to_vec(), random);
        let mut groups: Vec<Group> = single
            .chunks(self.batch)
            .filter(|c| c.len() > 1)
            .map(|c| Group { texts: c.to_vec(), paired: false })
            .collect();
        let answers = self.answers(random);
        let queries = self.arranged(answers.keys().copied().collect(), random);
        for queries in queries.chunks((self.batch / 2).max(2)).filter(|c| c.len() > 1) {
            let passages = queries.iter().map(|query| {
                let known = &answers[query];
                known[random.below(known.len())]
            });
            groups.push(Group { texts: queries.iter().copied().chain(passages).collect(), paired: true });
        }
        random.shuffle(&mut groups);
        groups
    }

    /// The passages of each query that is used this time.
    fn answers(&self, random: &mut Random) -> BTreeMap<u32, Vec<u32>> {
        let mut pairs = self.pairs.to_vec();
        random.shuffle(&mut pairs);
        let mut used: BTreeMap<u32, usize> = BTreeMap::new();
        let mut answers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for pair in pairs {
            let used = used.entry(pair.file).or_default();
            if *used < self.pair_limit {
                *used += 1;
                answers.entry(pair.query).or_default().push(pair.passage);
            }
        }
        answers
    }

    /// `texts` as leaves of neighbours, the leaves in random order.
    fn arranged(&self, mut texts: Vec<u32>, random: &mut Random) -> Vec<u32> {
        self.split(&mut texts, random);
        let mut leaves: Vec<&[u32]> = texts.chunks(self.leaf).collect();
        random.shuffle(&mut leaves);
        leaves.concat()
    }

    /// Splits by the difference of two random members, at a multiple of the leaf size near the middle, and goes on in both halves.
    fn split(&self, texts: &mut [u32], random: &mut Random) {
        if texts.len() <= self.leaf {
            return;
        }
        let dim = self.vectors.dim;
        let (mut direction, mut other) = (vec![0.0; dim], vec![0.0; dim]);
        self.vectors.read(texts[random.below(texts.len())] as usize, &mut direction);
        self.vectors.read(texts[random.below(texts.len())] as usize, &mut other);
        for (a, b) in direction.iter_mut().zip(&other) {
            *a -= b;
        }
        let parts = share::map(self.pool, texts.chunks(BLOCK), |texts| -> Vec<(f32, u32)> {
            let mut row = vec![0.0; dim];
            let project = |&text: &u32| {
                self.vectors.read(text as usize, &mut row);
                (dot(&row, &direction), text)
            };
            texts.iter().map(project).collect()
        });
        let mut keys = parts.concat();
        let middle = (texts.len() / 2).next_multiple_of(self.leaf);
        keys.select_nth_unstable_by(middle, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (text, key) in texts.iter_mut().zip(&keys) {
            *text = key.1;
        }
        let (low, high) = texts.split_at_mut(middle);
        self.split(low, random);
        self.split(high, random);
    }
}

/// `Σ a b` in sixteen sums, in an order that does not depend on the machine.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for k in 0..16 {
            sums[k] += a[k] * b[k];
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    /// Two clusters of 40 texts in two dimensions.
    fn vectors() -> Vectors {
        let row = |i: usize| {
            let angle = if i.is_multiple_of(2) { 0.1 } else { 1.4 } + i as f32 * 1e-3;
            [f16::from_f32(angle.cos()).to_bits(), f16::from_f32(angle.sin()).to_bits()]
        };
        Vectors::new((0..80).flat_map(row).collect(), 2)
    }

    #[test]
    fn every_text_comes_once_and_neighbours_come_together() {
        let (pool, vectors, texts) = (Pool::shared(Some(2)), vectors(), (0..80).collect::<Vec<u32>>());
        let pairs: Vec<Pair> = (0..30).map(|i| Pair { query: i, passage: i + 40, file: i % 2 }).collect();
        let planner = Planner {
            pool: &pool,
            vectors: &vectors,
            texts: &texts,
            pairs: &pairs,
            batch: 16,
            leaf: 4,
            pair_limit: 10,
        };
        let groups = planner.draw(&mut Random::new(17));
        assert_eq!(groups, planner.draw(&mut Random::new(17)));
        assert_ne!(groups, planner.draw(&mut Random::new(18)));
        let mut single: Vec<u32> = groups.iter().filter(|g| !g.paired).flat_map(|g| g.texts.clone()).collect();
        let together = single.chunks(4).filter(|leaf| leaf.iter().all(|t| t % 2 == leaf[0] % 2)).count();
        assert!(together >= 18, "{together} of 20 leaves are of one cluster");
        single.sort_unstable();
        assert_eq!(single, texts);
        let paired: Vec<&Group> = groups.iter().filter(|g| g.paired).collect();
        assert_eq!(paired.iter().map(|g| g.texts.len() / 2).sum::<usize>(), 20);
        for group in paired {
            let (queries, passages) = group.texts.split_at(group.texts.len() / 2);
            assert!(queries.iter().zip(passages).all(|(q, p)| q + 40 == *p));
        }
    }
}
