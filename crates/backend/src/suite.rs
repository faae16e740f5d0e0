//! The tests that every backend passes: each op against f64, over shapes that are small and awkward.
//!
//! A backend's own test calls [`run`] with the largest error its storage format allows.

use crate::{Attention, Backend, Dense, Embedding, Pool, Rope};
use embral_testkit::oracle;
use embral_types::{Activation, Batch, Dtype, Mask, NormKind, Pooling, Precision, Tensor};

/// Sequence lengths of every batch: one token, none, fewer and more than a vector of any instruction set.
const LENGTHS: [usize; 6] = [1, 0, 3, 17, 40, 2];

/// Runs every op; panics with the op, the shape and the error at the first that is off by more than `largest`.
///
/// # Panics
/// Where an op fails or differs from f64.
pub fn run<B: Backend>(backend: &B, largest: f64) {
    let suite = Suite { backend, largest };
    suite.embed();
    suite.linear();
    suite.norm();
    suite.rotate();
    suite.attention();
    suite.onlookers();
    suite.pool();
    suite.bag();
    suite.finish();
}

struct Suite<'a, B> {
    backend: &'a B,
    largest: f64,
}

fn batch(vocab: usize) -> Batch {
    let mut batch = Batch::default();
    for (s, &n) in LENGTHS.iter().enumerate() {
        let ids: Vec<u32> = (0..n).map(|i| ((i * 7 + s * 3) % vocab) as u32).collect();
        batch.push(&ids);
    }
    batch
}

fn tensor(seed: u64, shape: &[usize]) -> Tensor<'static> {
    Tensor::from_f32(shape.to_vec(), &oracle::numbers(seed, shape.iter().product()))
}

impl<B: Backend> Suite<'_, B> {
    fn check(&self, op: &str, got: &[f32], wanted: &[f64]) {
        let error = oracle::largest_difference(got, wanted);
        assert!(
            error <= self.largest,
            "{op} on {}: off by {error:e}, at most {:e}",
            self.backend.describe(),
            self.largest
        );
    }

    fn read(&self, buffer: &B::Buffer, len: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; len];
        self.backend.read(buffer, &mut out).unwrap();
        out
    }

    /// A buffer with these rows: looked up from a table that holds them in order.
    fn upload(&self, rows: &[f32], width: usize) -> B::Buffer {
        let count = rows.len() / width;
        let word = self.backend.load_table(&Tensor::from_f32(vec![count, width], rows)).unwrap();
        let mut order = Batch::default();
        order.push(&(0..count as u32).collect::<Vec<_>>());
        let mut y = self.backend.buffer(count, width).unwrap();
        let tables = Embedding { word: &word, position: None, kind: None, scale: 1.0, norm: None };
        self.backend.embed(&self.backend.plan(&order).unwrap(), &tables, &mut y).unwrap();
        y
    }

    fn embed(&self) {
        let (vocab, positions, width) = (13, 50, 24);
        let (word, position, kind) =
            (tensor(1, &[vocab, width]), tensor(2, &[positions, width]), tensor(3, &[2, width]));
        let (gamma, beta) = (tensor(4, &[width]), tensor(5, &[width]));
        let at = |t: &Tensor<'_>, row: usize, c: usize| f64::from(t.to_f32()[row * width + c]);
        for segments in [&[0u8; 3][..], &[0, 1, 1]] {
            let mut batch = batch(vocab);
            batch.push_segments(&[4, 4, 9], segments);
            batch.push(&[3]);
            let mut sums = Vec::new();
            for (sequence, ids) in batch.sequences().enumerate() {
                for (p, &id) in ids.iter().enumerate() {
                    let segment = if sequence == LENGTHS.len() { segments[p] } else { 0 };
                    sums.extend((0..width).map(|c| {
                        let rows = at(&word, id as usize, c) + at(&position, 2 + p, c);
                        2.0 * (rows + at(&kind, segment.into(), c))
                    }));
                }
            }
            self.embedded(&batch, &[&word, &position, &kind], (&gamma, &beta), &sums);
        }
    }

    fn embedded(
        &self,
        batch: &Batch,
        tables: &[&Tensor<'_>; 3],
        (gamma, beta): (&Tensor<'_>, &Tensor<'_>),
        sums: &[f64],
    ) {
        let width = gamma.len();
        let wanted = oracle::norm(sums, &gamma.to_f32(), Some(&beta.to_f32()), 1e-5, false);
        let b = self.backend;
        let norm = b.load_norm(NormKind::Layer, gamma, Some(beta), 1e-5).unwrap();
        let [word, position, kind] = tables.map(|table| b.load_table(table).unwrap());
        let tables =
            Embedding { word: &word, position: Some((&position, 2)), kind: Some(&kind), scale: 2.0, norm: Some(&norm) };
        let mut y = b.buffer(batch.tokens(), width).unwrap();
        b.embed(&b.plan(batch).unwrap(), &tables, &mut y).unwrap();
        self.check("embed", &self.read(&y, wanted.len()), &wanted);
    }

    fn linear(&self) {
        let (rows, k) = (19, 20);
        let x = oracle::numbers(1, rows * k);
        for (n, bias) in [(1, true), (16, false), (37, true)] {
            let weight = tensor(2, &[n, k]);
            let bias = bias.then(|| tensor(3, &[n]));
            let sums: Vec<f64> = oracle::product(&x, &weight.to_f32(), k)
                .iter()
                .enumerate()
                .map(|(i, s)| s + bias.as_ref().map_or(0.0, |b| f64::from(b.to_f32()[i % n])))
                .collect();
            let dense = Dense { weight, bias };
            let w = self.backend.load_linear(std::slice::from_ref(&dense), Precision::F32).unwrap();
            let input = self.upload(&x, k);
            for (activation, f) in activations() {
                let mut y = self.backend.buffer(rows, n).unwrap();
                self.backend.linear(&input, &w, activation, &mut y).unwrap();
                let wanted: Vec<f64> = sums.iter().map(|&s| f(s)).collect();
                self.check(&format!("linear {activation:?}"), &self.read(&y, rows * n), &wanted);
            }
            let start = oracle::numbers(4, rows * n);
            let mut y = self.upload(&start, n);
            self.backend.linear_add(&input, &w, &mut y).unwrap();
            let wanted: Vec<f64> = sums.iter().zip(&start).map(|(s, &r)| s + f64::from(r)).collect();
            self.check("linear_add", &self.read(&y, rows * n), &wanted);

            let up = Dense { weight: tensor(5, &[n, k]), bias: None };
            let w = self.backend.load_gated(&dense, &up, Precision::F32).unwrap();
            let mut y = self.backend.buffer(rows, n).unwrap();
            self.backend.linear(&input, &w, Activation::Silu, &mut y).unwrap();
            let ups = oracle::product(&x, &up.weight.to_f32(), k);
            let wanted: Vec<f64> = sums.iter().zip(&ups).map(|(&g, u)| oracle::silu(g) * u).collect();
            self.check("linear gated", &self.read(&y, rows * n), &wanted);
        }
        self.side_by_side(&x, rows, k);
    }

    fn side_by_side(&self, x: &[f32], rows: usize, k: usize) {
        let parts = [3, 5].map(|n| Dense { weight: tensor(n as u64, &[n, k]), bias: None });
        let together: Vec<f32> = parts.iter().flat_map(|p| p.weight.to_f32()).collect();
        let w = self.backend.load_linear(&parts, Precision::F32).unwrap();
        let mut y = self.backend.buffer(rows, 8).unwrap();
        self.backend.linear(&self.upload(x, k), &w, Activation::Identity, &mut y).unwrap();
        self.check("linear side by side", &self.read(&y, rows * 8), &oracle::product(x, &together, k));
    }

    fn norm(&self) {
        for width in [1, 24, 100] {
            let x = oracle::numbers(1, 5 * width);
            let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            let (gamma, beta) = (tensor(2, &[width]), tensor(3, &[width]));
            for (kind, beta) in [(NormKind::Layer, Some(&beta)), (NormKind::Rms, None)] {
                let shift = beta.map(Tensor::to_f32);
                let wanted = oracle::norm(&wide, &gamma.to_f32(), shift.as_deref(), 1e-3, kind == NormKind::Rms);
                let n = self.backend.load_norm(kind, &gamma, beta, 1e-3).unwrap();
                let mut x = self.upload(&x, width);
                let mut y = self.backend.buffer(5, width).unwrap();
                self.backend.norm(&x, &n, &mut y).unwrap();
                self.check(&format!("norm {kind:?}"), &self.read(&y, 5 * width), &wanted);
                self.backend.norm_in_place(&mut x, &n).unwrap();
                self.check(&format!("norm_in_place {kind:?}"), &self.read(&x, 5 * width), &wanted);
            }
        }
    }

    fn rotate(&self) {
        let a = Attention { heads: 3, kv_heads: 1, dim: 8, scale: 1.0, mask: Mask::Full, precision: Precision::F32 };
        let batch = batch(9);
        let x = oracle::numbers(1, batch.tokens() * a.input_width());
        let (query, key) = (tensor(2, &[a.dim]), tensor(3, &[a.dim]));
        let normed = |from: usize, gamma: &Tensor<'_>| {
            let head: Vec<f64> = x[from..from + a.dim].iter().map(|&v| f64::from(v)).collect();
            oracle::norm(&head, &gamma.to_f32(), None, 1e-6, true)
        };
        for interleaved in [false, true] {
            let rope = Rope { theta: 1e4, rotary_dims: 8, interleaved };
            let mut normed_rows = Vec::new();
            let mut turned_rows = Vec::new();
            let mut row = 0;
            for ids in batch.sequences() {
                for position in 0..ids.len() {
                    for head in 0..a.heads + 2 * a.kv_heads {
                        let from = row * a.input_width() + head * a.dim;
                        let plain = &x[from..from + a.dim];
                        if head < a.heads + a.kv_heads {
                            normed_rows.extend(normed(from, if head < a.heads { &query } else { &key }));
                            turned_rows.extend(oracle::rotate(plain, position, 1e4, 8, interleaved));
                        } else {
                            normed_rows.extend(plain.iter().map(|&v| f64::from(v)));
                            turned_rows.extend(plain.iter().map(|&v| f64::from(v)));
                        }
                    }
                    row += 1;
                }
            }
            let b = self.backend;
            let mut qkv = self.upload(&x, a.input_width());
            b.rotate(&b.plan(&batch).unwrap(), &mut qkv, &a, &rope).unwrap();
            self.check("rotate", &self.read(&qkv, x.len()), &turned_rows);
            let q = b.load_norm(NormKind::Rms, &query, None, 1e-6).unwrap();
            let k = b.load_norm(NormKind::Rms, &key, None, 1e-6).unwrap();
            let mut qkv = self.upload(&x, a.input_width());
            b.norm_heads(&mut qkv, &a, &q, &k).unwrap();
            self.check("norm_heads", &self.read(&qkv, x.len()), &normed_rows);
        }
    }

    fn attention(&self) {
        let batch = batch(9);
        let shapes = [(1, 1, 8), (4, 2, 16), (3, 3, 32), (2, 1, 64)];
        for (heads, kv_heads, dim) in shapes {
            for mask in [Mask::Full, Mask::Causal, Mask::Window(3)] {
                let a = Attention { heads, kv_heads, dim, scale: 0.3, mask, precision: Precision::F32 };
                let x = oracle::numbers(1, batch.tokens() * a.input_width());
                let causal = mask == Mask::Causal;
                let reach = if let Mask::Window(reach) = mask { Some(reach) } else { None };
                let h = oracle::Heads { heads, kv_heads, dim, scale: f64::from(a.scale), causal, reach };
                let wanted = oracle::attention(&x, batch.offsets(), &h);
                let mut y = self.backend.buffer(batch.tokens(), a.output_width()).unwrap();
                let plan = self.backend.plan(&batch).unwrap();
                self.backend.attention(&plan, &self.upload(&x, a.input_width()), &a, &mut y).unwrap();
                self.check(&format!("attention {a:?}"), &self.read(&y, wanted.len()), &wanted);
            }
        }
    }

    /// Tokens that look on see those that are seen, and those do not see them.
    fn onlookers(&self) {
        let a = Attention { heads: 2, kv_heads: 1, dim: 8, scale: 0.3, mask: Mask::Full, precision: Precision::F32 };
        let h = oracle::Heads { heads: 2, kv_heads: 1, dim: 8, scale: f64::from(a.scale), causal: false, reach: None };
        let (width, out) = (a.input_width(), a.output_width());
        let mut batch = Batch::default();
        batch.push(&[1, 2, 3]);
        batch.push_seen(&[1; 9], 4);
        let x = oracle::numbers(1, batch.tokens() * width);
        let mut wanted = oracle::attention(&x[..3 * width], &[0, 3], &h);
        for row in 3..12 {
            // The query in the place of the first of four rows, whose keys and values are as they were.
            let mut rows = x[3 * width..7 * width].to_vec();
            rows[..out].copy_from_slice(&x[row * width..][..out]);
            wanted.extend_from_slice(&oracle::attention(&rows, &[0, 4], &h)[..out]);
        }
        let mut y = self.backend.buffer(batch.tokens(), out).unwrap();
        let plan = self.backend.plan(&batch).unwrap();
        self.backend.attention(&plan, &self.upload(&x, width), &a, &mut y).unwrap();
        self.check("attention of onlookers", &self.read(&y, wanted.len()), &wanted);
    }

    fn pool(&self) {
        let batch = batch(9);
        let width = 20;
        let x = oracle::numbers(1, batch.tokens() * width);
        for (how, skip) in Pooling::ALL.into_iter().flat_map(|how| [(how, 0), (how, 2)]) {
            let mut wanted = Vec::new();
            for ends in batch.offsets().windows(2) {
                let (start, end) = (ends[0] as usize, ends[1] as usize);
                let rows = &x[(start + skip).min(end) * width..end * width];
                wanted.extend((0..width).map(|c| pooled(rows.iter().skip(c).step_by(width), how)));
            }
            for l2 in [false, true] {
                let mut y = self.backend.buffer(batch.len(), width).unwrap();
                let plan = self.backend.plan(&batch).unwrap();
                let pool = Pool { how, skip, l2 };
                self.backend.pool(&plan, &self.upload(&x, width), pool, &mut y).unwrap();
                let wanted = if l2 { oracle::unit(&wanted, width) } else { wanted.clone() };
                self.check(&format!("{pool:?}"), &self.read(&y, wanted.len()), &wanted);
            }
        }
    }

    fn bag(&self) {
        let (vocab, rows, width) = (11, 6, 20);
        let batch = batch(vocab);
        let bytes: Vec<u8> = (0..rows * width).map(|i| (i * 37 % 256) as u8).collect();
        let tables = [
            tensor(1, &[rows, width]),
            Tensor::new(Dtype::I8, vec![rows, width], bytes),
            // Halves: 0x3c00 is 1, each step of the last ten bits 1/1024.
            Tensor::new(
                Dtype::F16,
                vec![rows, width],
                (0..rows * width).flat_map(|i| (0x3c00 + i as u16).to_le_bytes()).collect::<Vec<_>>(),
            ),
        ];
        let weights = tensor(2, &[vocab]);
        let mapping: Vec<u32> = (0..vocab as u32).map(|i| i * 5 % rows as u32).collect();
        let stored: Vec<u8> = mapping.iter().flat_map(|&m| i64::from(m).to_le_bytes()).collect();
        let stored = Tensor::new(Dtype::I64, vec![vocab], stored);
        for table in &tables {
            let values = table.to_f32();
            let factors = weights.to_f32();
            let mut wanted = Vec::new();
            for ids in batch.sequences() {
                for c in 0..width {
                    let of = |&id: &u32| {
                        let row = mapping[id as usize] as usize;
                        f64::from(factors[id as usize]) * f64::from(values[row * width + c])
                    };
                    wanted.push(ids.iter().map(of).sum::<f64>() / ids.len().max(1) as f64);
                }
            }
            let wanted = oracle::unit(&wanted, width);
            let b = self.backend;
            let bag = b.load_bag(table, Some(&weights), Some(&stored)).unwrap();
            let mut y = b.buffer(batch.len(), width).unwrap();
            b.bag(&b.plan(&batch).unwrap(), &bag, true, &mut y).unwrap();
            self.check(&format!("bag {}", table.dtype()), &self.read(&y, wanted.len()), &wanted);
        }
        let beyond = Tensor::new(Dtype::I64, vec![1], (rows as i64).to_le_bytes().to_vec());
        assert!(self.backend.load_bag(&tables[0], None, Some(&beyond)).is_err(), "a row that is not there is refused");
    }

    fn finish(&self) {
        let x = oracle::numbers(1, 4 * 20);
        for l2 in [false, true] {
            let cut: Vec<f64> = x.chunks(20).flat_map(|row| row[..12].iter().map(|&v| f64::from(v))).collect();
            let wanted = if l2 { oracle::unit(&cut, 12) } else { cut };
            let mut y = self.backend.buffer(4, 12).unwrap();
            self.backend.finish(&self.upload(&x, 20), l2, &mut y).unwrap();
            self.check("finish", &self.read(&y, 48), &wanted);
        }
        let mut y = self.backend.buffer(2, 20).unwrap();
        self.backend.rows(&self.upload(&x, 20), 1, &mut y).unwrap();
        let wanted: Vec<f64> = x[20..60].iter().map(|&v| f64::from(v)).collect();
        self.check("rows", &self.read(&y, 40), &wanted);
    }
}

type Function = fn(f64) -> f64;

fn activations() -> [(Activation, Function); 6] {
    [
        (Activation::Identity, |x| x),
        (Activation::GeluErf, oracle::gelu_erf),
        (Activation::GeluTanh, oracle::gelu_tanh),
        (Activation::Silu, oracle::silu),
        (Activation::Relu, |x| x.max(0.0)),
        (Activation::Tanh, f64::tanh),
    ]
}

fn pooled<'a>(column: impl Iterator<Item = &'a f32>, how: Pooling) -> f64 {
    let column: Vec<f64> = column.map(|&v| f64::from(v)).collect();
    let value = match how {
        Pooling::Mean => Some(column.iter().sum::<f64>() / column.len().max(1) as f64),
        Pooling::Cls => column.first().copied(),
        Pooling::Max => column.iter().copied().reduce(f64::max),
        Pooling::Last => column.last().copied(),
    };
    value.unwrap_or(0.0)
}
