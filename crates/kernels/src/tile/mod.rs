//! The micro-kernel under matrix products and attention: a few rows times one panel, all of `k`, accumulators in registers.
//!
//! Everything is counted in words of 32 bits, which hold one value or several ([`Format`]). The rows (A) are copied to blocks
//! `[words / DEPTH][rows][STRIDE]`: within a block every address is one register plus a constant. A panel (B) is
//! `[words][2 LANES]`. An element of the product is `((0 + a0 b0) + a1 b1) + ...` in order of the words, whatever the tile.

mod format;

pub(crate) use format::{Bf16, F32, Format, Int8, Scale, row_words};

use crate::simd::Simd;

/// Words of one row in a block; a multiple of every panel width.
pub(crate) const DEPTH: usize = 384;
/// From row to row of a block. A line more than `DEPTH`, so that rows of equal columns do not share a set of the cache.
pub(crate) const STRIDE: usize = DEPTH + 16;
/// Rows of the largest tile of any level.
pub(crate) const MAX_TILE: usize = 14;
/// Lines of a panel are asked for this many words ahead, into the next panel at the end of one: one query of 11 tokens streams all
/// weights from the third cache, and takes 1.7 times as long without.
const AHEAD: usize = 3072;

/// Words that `rows` rows of `words` take as blocks.
pub(crate) const fn blocks_len(rows: usize, words: usize) -> usize {
    words.div_ceil(DEPTH) * rows * STRIDE
}

/// Cuts `rows` into the fewest tiles of at most `most` rows, of sizes that differ by at most 1.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    rows: usize,
    pub(crate) count: usize,
}

impl Tiles {
    pub(crate) fn new(rows: usize, most: usize) -> Self {
        Self { rows, count: rows.div_ceil(most) }
    }

    /// The first row of tile `index`, for `index <= count`.
    #[inline(always)]
    pub(crate) fn start(self, index: usize) -> usize {
        if self.count == 0 {
            return 0;
        }
        let (base, larger) = (self.rows / self.count, self.rows % self.count);
        index * base + index.min(larger)
    }
}

/// One vector of columns of a panel: `to[i * to_stride + r] = from[r * from_stride + i]` for `i < k`, `r < count`, and 0 for the other
/// rows up to `LANES`.
///
/// # Panics
/// Where a slice ends before its last row.
#[inline(always)]
pub(crate) fn pack_columns<S: Simd>(
    s: S,
    (from, from_stride, count): (&[f32], usize, usize),
    k: usize,
    (to, to_stride): (&mut [f32], usize),
) {
    for i in (0..k).step_by(S::LANES) {
        let depth = S::LANES.min(k - i);
        let (source, target) = (from.get(i..).unwrap_or_default(), &mut to[i * to_stride..]);
        if count == S::LANES && depth == S::LANES {
            assert!(source.len() >= (S::LANES - 1) * from_stride + S::LANES);
            assert!(target.len() >= (S::LANES - 1) * to_stride + S::LANES);
            // SAFETY: both slices hold LANES rows of their strides.
            unsafe { s.transpose(source.as_ptr(), from_stride, target.as_mut_ptr(), to_stride) }
            continue;
        }
        // A part of a square goes through whole ones of 16 x 16 at most.
        let (mut square, mut turned) = ([0.0_f32; 256], [0.0_f32; 256]);
        for (r, row) in square.chunks_exact_mut(S::LANES).enumerate().take(count) {
            row[..depth].copy_from_slice(&source[r * from_stride..][..depth]);
        }
        // SAFETY: both arrays hold a square of LANES.
        unsafe { s.transpose(square.as_ptr(), S::LANES, turned.as_mut_ptr(), S::LANES) }
        for (c, row) in turned.chunks_exact(S::LANES).enumerate().take(depth) {
            let v = s.read(row);
            s.write(&mut target[c * to_stride..][..S::LANES], v);
        }
    }
}

/// Takes the sums of a tile while they are in registers.
pub(crate) trait Finish<S: Simd, F: Format> {
    /// The two vectors of row `row`.
    ///
    /// # Safety
    /// The tile has this row.
    unsafe fn row(&self, s: S, row: usize, sums: [F::Sum<S>; 2]);
}

/// Stores sums as the format does, rows `stride` apart.
struct Store {
    to: *mut f32,
    stride: usize,
}

impl<S: Simd, F: Format> Finish<S, F> for Store {
    #[inline(always)]
    unsafe fn row(&self, s: S, row: usize, sums: [F::Sum<S>; 2]) {
        // SAFETY: who made this has room for the rows of the tile.
        unsafe {
            let to = self.to.add(row * self.stride);
            F::store(s, to, sums[0]);
            F::store(s, to.add(S::LANES), sums[1]);
        }
    }
}

/// `out[r * out_stride + c] = Σ_k a[r][k] b[k][c]` for `rows <= F::tile` rows and the `2 LANES` columns of a panel, as `F` stores
/// its sums.
///
/// # Safety
/// `a` holds the blocks of `rows` rows that go with a panel of `words`, `b` that panel, and `out` takes `rows` rows.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, F: Format>(
    s: S,
    rows: usize,
    a: *const f32,
    words: usize,
    b: *const f32,
    out: *mut f32,
    out_stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { multiply_to::<S, F>(s, rows, (a, words, b), &Store { to: out, stride: out_stride }) }
}

/// Gives `finish` what [`multiply`] stores.
///
/// # Safety
/// As there, `finish` taking `rows` rows.
#[inline(always)]
pub(crate) unsafe fn multiply_to<S: Simd, F: Format>(
    s: S,
    rows: usize,
    (a, words, b): (*const f32, usize, *const f32),
    finish: &impl Finish<S, F>,
) {
    macro_rules! cases {
        ($($n:literal)*) => {
            match rows {
                $($n if $n <= F::tile::<S>() => {
                    // SAFETY: the caller's promise, for `rows` = the constant.
                    unsafe { fixed::<S, F, $n>(s, a, words, b, finish) }
                })*
                _ => unreachable!("a tile has 1 to {} rows, not {rows}", F::tile::<S>()),
            }
        };
    }
    cases!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

#[inline(always)]
unsafe fn fixed<S: Simd, F: Format, const ROWS: usize>(
    s: S,
    mut a: *const f32,
    mut words: usize,
    mut b: *const f32,
    finish: &impl Finish<S, F>,
) {
    let spread = F::spread::<S>();
    let mut sums = [[F::zero(s); 2]; ROWS];
    while words > 0 {
        let depth = if words < DEPTH / spread { words } else { DEPTH / spread };
        for i in 0..depth {
            // SAFETY: i < depth, so that word i of the panel and those of the block are there.
            unsafe {
                s.prefetch(b.wrapping_add(AHEAD));
                if S::LANES == 16 {
                    s.prefetch(b.wrapping_add(AHEAD + 16));
                }
                let panel = [F::right(s, b), F::right(s, b.add(S::LANES))];
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = F::left(s, a.add(r * STRIDE + i * spread));
                    sum[0] = F::add_product(s, x, panel[0], sum[0]);
                    sum[1] = F::add_product(s, x, panel[1], sum[1]);
                }
                b = b.add(2 * S::LANES);
            }
        }
        a = a.wrapping_add(ROWS * STRIDE);
        words -= depth;
    }
    // Written out: a loop of so large a body is not unrolled, and sums with an index at run time are kept in memory.
    macro_rules! rows {
        ($($r:literal)*) => {
            $(if let Some(&sum) = sums.get($r) {
                // SAFETY: the tile has row r.
                unsafe { finish.row(s, $r, sum) }
            })*
        };
    }
    rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
}
