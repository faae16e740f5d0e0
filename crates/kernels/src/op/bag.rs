//! Bags of table rows: the whole forward pass of a static model.

use super::pooling::to_unit;
use super::sequences;
use crate::parts::split_rows;
use crate::simd::{Kernel, Simd};
use crate::{Isa, Pool};

/// A table of rows in the numbers it is stored in.
#[derive(Clone, Copy, Debug)]
pub enum Table<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// Half precision, as bits.
    F16(&'a [u16]),
    /// Integers, taken as they are; a scale belongs into the weights.
    I8(&'a [i8]),
}

impl Table<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(t) => t.len(),
            Self::F16(t) => t.len(),
            Self::I8(t) => t.len(),
        }
    }
}

/// A table and how ids find their rows in it.
#[derive(Clone, Copy, Debug)]
pub struct Bag<'a> {
    /// The rows, `[_, width]`.
    pub table: Table<'a>,
    /// The width of a row.
    pub width: usize,
    /// What the row of an id is multiplied by, one value an id.
    pub weights: Option<&'a [f32]>,
    /// The row of an id, where that is not the id.
    pub mapping: Option<&'a [u32]>,
}

/// The mean of `weights[id] · table[mapping[id]]` over the ids of each sequence, `[sequences, width]`, with `l2` divided by its
/// length. An empty sequence gives zeros.
///
/// # Panics
/// Where an id has no weight or no row, or a buffer has another size.
pub fn bag(pool: &Pool, ids: &[u32], offsets: &[u32], bag: &Bag<'_>, l2: bool, out: &mut [f32]) {
    bag_with(Isa::active(), pool, ids, offsets, bag, l2, out);
}

fn bag_with(isa: Isa, pool: &Pool, ids: &[u32], offsets: &[u32], bag: &Bag<'_>, l2: bool, out: &mut [f32]) {
    let width = bag.width;
    assert!(width > 0 && bag.table.len().is_multiple_of(width), "the table has whole rows of {width}");
    let count = sequences(offsets, ids.len());
    assert_eq!(out.len(), count * width, "out is [{count}, {width}]");
    let cost = ids.len().div_ceil(count.max(1));
    split_rows(pool, out, width, cost, &|first, out| {
        isa.run(Sequences { ids, offsets: &offsets[first..], bag, l2, out });
    });
}

struct Sequences<'a> {
    ids: &'a [u32],
    offsets: &'a [u32],
    bag: &'a Bag<'a>,
    l2: bool,
    out: &'a mut [f32],
}

impl Kernel for Sequences<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { ids, offsets, bag, l2, out } = self;
        for (i, out) in out.chunks_exact_mut(bag.width).enumerate() {
            let ids = &ids[offsets[i] as usize..offsets[i + 1] as usize];
            if ids.is_empty() {
                out.fill(0.0);
                continue;
            }
            match bag.table {
                Table::F32(table) => mean(s, ids, bag, table, out),
                Table::F16(table) => mean(s, ids, bag, table, out),
                Table::I8(table) => mean(s, ids, bag, table, out),
            }
            if l2 {
                to_unit(s, out);
            }
        }
    }
}

/// A number that tables are stored in.
trait Stored: Copy {
    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
    const ZERO: Self;
}

/// `Stored` through one method of `Simd`.
macro_rules! stored {
    ($($number:ty, $method:ident, $zero:expr;)*) => {$(
        impl Stored for $number {
            const ZERO: Self = $zero;
            #[inline(always)]
            unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
                // SAFETY: the caller's promise.
                unsafe { s.$method(p) }
            }
        }
    )*};
}
stored! { f32, load, 0.0; u16, load_f16, 0; i8, load_i8, 0; }

/// Vectors whose sums are kept in registers while the ids are walked.
const RUN: usize = 8;

#[inline(always)]
fn mean<S: Simd, T: Stored>(s: S, ids: &[u32], bag: &Bag<'_>, table: &[T], out: &mut [f32]) {
    let width = bag.width;
    let count = s.splat(ids.len() as f32);
    for (run, out) in out.chunks_mut(RUN * S::LANES).enumerate() {
        let first = run * RUN * S::LANES;
        let mut sums = [s.zero(); RUN];
        for &id in ids {
            let id = id as usize;
            let row = match bag.mapping {
                Some(mapping) => mapping[id] as usize,
                None => id,
            };
            let row = &table[row * width..(row + 1) * width][first..first + out.len()];
            let weight = s.splat(match bag.weights {
                Some(weights) => weights[id],
                None => 1.0,
            });
            if row.len() == RUN * S::LANES {
                for (j, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the row has RUN vectors.
                    let v = unsafe { T::load(s, row.as_ptr().add(j * S::LANES)) };
                    *sum = s.fma(v, weight, *sum);
                }
            } else {
                for (part, sum) in row.chunks(S::LANES).zip(&mut sums) {
                    let mut lanes = [T::ZERO; 16];
                    lanes[..part.len()].copy_from_slice(part);
                    // SAFETY: 16 values are at least a vector.
                    let v = unsafe { T::load(s, lanes.as_ptr()) };
                    *sum = s.fma(v, weight, *sum);
                }
            }
        }
        for (part, sum) in out.chunks_mut(S::LANES).zip(sums) {
            s.write(part, s.div(sum, count));
        }
    }
}
