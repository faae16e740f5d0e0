//! The tests that every backend passes: each op against f64, over shapes that are small and awkward.
//!
//! A backend's own test calls [`run`] with the largest error its storage format allows.

use crate::{Attention, Backend, Bias, Dense, Embedding, Experts, Pool, Relative, Rope};
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
    suite.experts();
    suite.norm();
    suite.rotate();
    suite.norm_query_key();
    suite.attention();
    suite.attention_relative();
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

    /// A buffer with these rows, which are read back as they are.
    fn upload(&self, rows: &[f32], width: usize) -> B::Buffer {
        let mut y = self.backend.buffer(rows.len() / width, width).unwrap();
        self.backend.write(rows, &mut y).unwrap();
        assert!(self.read(&y, rows.len()) == rows, "write on {}", self.backend.describe());
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
                for (i, &id) in ids.iter().enumerate() {
                    let segment = if sequence == LENGTHS.len() { segments[i] } else { 0 };
                    let place = ids[..i].iter().filter(|&&before| before != 7).count();
                    let row = if id == 7 { 1 } else { 2 + place };
                    sums.extend((0..width).map(|c| {
                        let rows = at(&word, id as usize, c) + at(&position, row, c);
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
        let tables = Embedding {
            word: &word,
            position: Some((&position, 2)),
            padding: Some(7),
            kind: Some(&kind),
            scale: 2.0,
            norm: Some(&norm),
        };
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
            let mut sum = self.upload(&start, n);
            self.backend.add(&self.upload(&start, n), &mut sum).unwrap();
            let twice: Vec<f64> = start.iter().map(|&s| 2.0 * f64::from(s)).collect();
            self.check("add", &self.read(&sum, rows * n), &twice);
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

    fn experts(&self) {
        let (rows, width, inner, count, chosen) = (19, 12, 9, 4, 2);
        let x = oracle::numbers(1, rows * width);
        let dense = |seed, n, k| Dense { weight: tensor(seed, &[n, k]), bias: None };
        let router = dense(2, count, width);
        let (ups, downs): (Vec<_>, Vec<_>) =
            (0..count as u64).map(|e| (dense(10 + e, inner, width), dense(20 + e, width, inner))).unzip();
        let bias = tensor(3, &[1, width]);
        let mut wanted = Vec::new();
        for row in x.chunks(width) {
            let logits = oracle::product(row, &router.weight.to_f32(), width);
            let all: f64 = logits.iter().map(|l| l.exp()).sum();
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            let mut sums: Vec<f64> = bias.to_f32().iter().map(|&b| f64::from(b)).collect();
            for &e in &order[..chosen] {
                let middle: Vec<f64> =
                    oracle::product(row, &ups[e].weight.to_f32(), width).into_iter().map(oracle::gelu_erf).collect();
                let down = downs[e].weight.to_f32();
                for (sum, weights) in sums.iter_mut().zip(down.chunks(inner)) {
                    let value: f64 = middle.iter().zip(weights).map(|(m, &w)| m * f64::from(w)).sum();
                    *sum += logits[e].exp() / all * value;
                }
            }
            wanted.extend(sums);
        }
        let b = self.backend;
        let load = |dense: &Dense<'_>| b.load_linear(std::slice::from_ref(dense), Precision::F32).unwrap();
        let experts = Experts {
            router: load(&router),
            up: ups.iter().map(load).collect(),
            down: downs.iter().map(load).collect(),
            bias: b.load_table(&bias).unwrap(),
            chosen,
            inner,
        };
        let mut y = b.buffer(rows, width).unwrap();
        b.experts(&self.upload(&x, width), &experts, Activation::GeluErf, &mut y).unwrap();
        self.check("experts", &self.read(&y, rows * width), &wanted);
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
                let unchanged = self.upload(&x, width);
                let mut x = self.upload(&x, width);
                let mut y = self.backend.buffer(5, width).unwrap();
                self.backend.norm(&x, &n, &mut y).unwrap();
                self.check(&format!("norm {kind:?}"), &self.read(&y, 5 * width), &wanted);
                self.backend.norm_in_place(&mut x, &n).unwrap();
                self.check(&format!("norm_in_place {kind:?}"), &self.read(&x, 5 * width), &wanted);
                let start = oracle::numbers(4, 5 * width);
                let mut sum = self.upload(&start, width);
                self.backend.norm_add(&unchanged, &n, &mut sum).unwrap();
                let wanted: Vec<f64> = wanted.iter().zip(&start).map(|(w, &s)| w + f64::from(s)).collect();
                self.check(&format!("norm_add {kind:?}"), &self.read(&sum, 5 * width), &wanted);
            }
        }
    }

    fn rotate(&self) {
        let a = Attention { heads: 3, kv_heads: 1, dim: 8, scale: 1.0, mask: Mask::Full, precision: Precision::F32 };
        let (batch, width) = (batch(9), a.input_width());
        let x = oracle::numbers(1, batch.tokens() * width);
        let frequencies = [1.0, 0.1, 0.01];
        for interleaved in [false, true] {
            let rope = Rope { frequencies: frequencies.to_vec(), factor: 1.25, interleaved };
            let mut turned = Vec::new();
            let places = batch.sequences().flat_map(|ids| 0..ids.len());
            for (position, row) in places.zip(x.chunks(width)) {
                for (head, plain) in row.chunks(a.dim).enumerate() {
                    let wide = if head < a.heads + a.kv_heads { &frequencies[..] } else { &[] };
                    turned.extend(oracle::rotate(plain, position, wide, 1.25, interleaved));
                }
            }
            let b = self.backend;
            let mut qkv = self.upload(&x, width);
            b.rotate(&b.plan(&batch).unwrap(), &mut qkv, &a, &rope).unwrap();
            self.check("rotate", &self.read(&qkv, x.len()), &turned);
        }
    }

    fn norm_query_key(&self) {
        let a = Attention { heads: 4, kv_heads: 2, dim: 8, scale: 1.0, mask: Mask::Full, precision: Precision::F32 };
        let width = a.input_width();
        let x = oracle::numbers(1, 9 * width);
        for (query, key) in [(a.dim, a.dim), (a.heads * a.dim, a.kv_heads * a.dim)] {
            for kind in [NormKind::Rms, NormKind::Layer] {
                let weights = |seed, width| (tensor(seed, &[width]), tensor(seed + 1, &[width]));
                let ((q, q_shift), (k, k_shift)) = (weights(2, query), weights(4, key));
                let normed = |values: &[f32], (gamma, beta): (&Tensor<'_>, &Tensor<'_>)| {
                    let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
                    oracle::norm(&values, &gamma.to_f32(), Some(&beta.to_f32()), 1e-6, kind == NormKind::Rms)
                };
                let mut wanted = Vec::new();
                for row in x.chunks(width) {
                    let (queries, rest) = row.split_at(a.heads * a.dim);
                    let (keys, values) = rest.split_at(a.kv_heads * a.dim);
                    wanted.extend(normed(queries, (&q, &q_shift)));
                    wanted.extend(normed(keys, (&k, &k_shift)));
                    wanted.extend(values.iter().map(|&v| f64::from(v)));
                }
                let b = self.backend;
                let q = b.load_norm(kind, &q, Some(&q_shift), 1e-6).unwrap();
                let k = b.load_norm(kind, &k, Some(&k_shift), 1e-6).unwrap();
                let mut qkv = self.upload(&x, width);
                b.norm_query_key(&mut qkv, &a, &q, &k).unwrap();
                self.check(&format!("norm_query_key {kind:?} {query}"), &self.read(&qkv, x.len()), &wanted);
            }
        }
    }

    fn attention(&self) {
        let batch = batch(9);
        let shapes = [(1, 1, 8), (4, 2, 16), (3, 3, 32), (2, 1, 64)];
        for (heads, kv_heads, dim) in shapes {
            for mask in [Mask::Full, Mask::Causal, Mask::Window(3), Mask::CausalWindow(4)] {
                let a = Attention { heads, kv_heads, dim, scale: 0.3, mask, precision: Precision::F32 };
                let x = oracle::numbers(1, batch.tokens() * a.input_width());
                let causal = matches!(mask, Mask::Causal | Mask::CausalWindow(_));
                let reach = if let Mask::Window(reach) | Mask::CausalWindow(reach) = mask { Some(reach) } else { None };
                let h = oracle::Heads { heads, kv_heads, dim, scale: f64::from(a.scale), causal, reach };
                let bias = oracle::numbers(2, heads * 11);
                let table = self.backend.load_table(&Tensor::from_f32(vec![heads, 11], &bias)).unwrap();
                for with in [false, true] {
                    let wanted = oracle::attention_biased(&x, batch.offsets(), &h, &|head, query, key| {
                        let distance = (key as i64 - query as i64).clamp(-5, 5) + 5;
                        if with { f64::from(bias[head * 11 + distance as usize]) } else { 0.0 }
                    });
                    let mut y = self.backend.buffer(batch.tokens(), a.output_width()).unwrap();
                    let plan = self.backend.plan(&batch).unwrap();
                    let input = self.upload(&x, a.input_width());
                    let bias = if with { Bias::Distance(&table) } else { Bias::None };
                    self.backend.attention(&plan, &input, &a, bias, &mut y).unwrap();
                    self.check(&format!("attention {a:?}, bias {with}"), &self.read(&y, wanted.len()), &wanted);
                }
            }
        }
    }

    fn attention_relative(&self) {
        let batch = batch(9);
        let (heads, dim) = (2, 12);
        for mask in [Mask::Full, Mask::Window(3)] {
            let a = Attention { heads, kv_heads: heads, dim, scale: 0.3, mask, precision: Precision::F32 };
            let x = oracle::numbers(1, batch.tokens() * a.input_width());
            let (keys, queries) = (oracle::numbers(2, 5 * heads * dim), oracle::numbers(3, 5 * heads * dim));
            let relative = Relative {
                keys: Some(self.upload(&keys, heads * dim)),
                queries: Some(self.upload(&queries, heads * dim)),
                distances: vec![4, 3, 1, 0, 2],
            };
            let reach = if let Mask::Window(reach) = mask { Some(reach) } else { None };
            let h = oracle::Heads { heads, kv_heads: heads, dim, scale: f64::from(a.scale), causal: false, reach };
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
            let wanted = oracle::attention_biased(&x, batch.offsets(), &h, &|head, query, key| {
                let row = relative.distances[((key as i64 - query as i64).clamp(-2, 2) + 2) as usize] as usize;
                let at = |row: usize, column: usize| &x[(row * 3 * heads + column) * dim..][..dim];
                let row = (row * heads + head) * dim..;
                h.scale * (dot(at(query, head), &keys[row.clone()]) + dot(at(key, heads + head), &queries[row]))
            });
            let mut y = self.backend.buffer(batch.tokens(), a.output_width()).unwrap();
            let plan = self.backend.plan(&batch).unwrap();
            let input = self.upload(&x, a.input_width());
            self.backend.attention(&plan, &input, &a, Bias::Relative(&relative), &mut y).unwrap();
            self.check(&format!("attention {a:?}, relative"), &self.read(&y, wanted.len()), &wanted);
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
        self.backend.attention(&plan, &self.upload(&x, width), &a, Bias::None, &mut y).unwrap();
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
