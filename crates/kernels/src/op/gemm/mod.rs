//! Matrix products with weights that are packed once: `out = act(a Wᵀ + bias) + residual`, all rows of all sequences at once.
//!
//! Work is cut into a grid of row blocks (as many rows as keep their copy in the second cache) and column blocks (runs of panels).
//! Few rows are one row block, and the threads stream different panels; many rows are many row blocks. A task copies its rows once,
//! then runs every tile over every panel of its column block over the full depth.

mod pack;

pub(crate) use pack::Level;
pub use pack::{Image, PackedMatrix};

use super::activation::{self, Activation, Function};
use crate::Pool;
use crate::isa::Numbers;
use crate::parts::Parts;
use crate::scratch::{self, Scratch};
use crate::simd::{Kernel, Simd};
use crate::tile::{self, Bf16, F32, Finish, Format, Int8, MAX_TILE, Scale, Tiles, blocks_len};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers that a product is made of. What goes in and comes out is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Weights and rows rounded to bf16, summed in f32.
    Bf16,
    /// Weights rounded to 8 bits by columns, rows to 8 bits by themselves, summed exactly.
    Int8,
}

impl Precision {
    /// Every precision, most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// The numbers that need instructions of their own.
    pub fn numbers(self) -> Option<Numbers> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(Numbers::Bf16),
            Self::Int8 => Some(Numbers::Int8),
        }
    }

    fn values_a_word(self) -> usize {
        match self {
            Self::F32 => F32::VALUES,
            Self::Bf16 => Bf16::VALUES,
            Self::Int8 => Int8::VALUES,
        }
    }
}

/// What is added after the activation.
#[derive(Clone, Copy, Debug, Default)]
pub enum Residual<'a> {
    /// Nothing.
    #[default]
    None,
    /// A matrix of the shape of the result.
    Add(&'a [f32]),
    /// What the result's buffer holds.
    InPlace,
}

/// What happens to the product before it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// One value a column of the weights; for a gated matrix those of the gate, then those of the other half.
    pub bias: Option<&'a [f32]>,
    /// Applied to the sum; for a gated matrix to the gate.
    pub activation: Activation,
    /// Added last.
    pub residual: Residual<'a>,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Self { bias: None, activation: Activation::Identity, residual: Residual::None }
    }
}

/// Words of packed rows a task keeps at most: 384 KiB, which leaves room for a panel in a second cache of 1 MiB.
const BLOCK_WORDS: usize = 96 << 10;
/// Words a task multiplies at least, about 2 µs.
const TASK_WORK: usize = 1 << 18;
/// Tasks a thread gets, where there is work for them: the last one of another thread is waited for.
const TASKS_PER_THREAD: usize = 12;
/// Tiles of a row block at least, where blocks are made smaller for the sake of more tasks: a panel is read once for all of them.
const FEWEST_TILES: usize = 6;

/// `out = act(a Wᵀ + bias) + residual`, `a` being `[rows, k]` and `out` `[rows, w.rows_out()]`; a gated matrix gives
/// `act(a Gᵀ + bias₁) ⊙ (a Uᵀ + bias₂) + residual`.
///
/// # Panics
/// Where a buffer does not have the size that `rows` and `w` say.
pub fn gemm(pool: &Pool, a: &[f32], rows: usize, w: &PackedMatrix, e: &Epilogue<'_>, out: &mut [f32]) {
    assert_eq!(a.len(), rows * w.k(), "a is [{rows}, {}]", w.k());
    assert_eq!(out.len(), rows * w.rows_out(), "out is [{rows}, {}]", w.rows_out());
    if let Some(bias) = e.bias {
        assert_eq!(bias.len(), w.columns(), "one bias a column");
    }
    if let Residual::Add(residual) = e.residual {
        assert_eq!(residual.len(), out.len(), "the residual has the shape of the result");
    }
    if out.is_empty() {
        return;
    }
    match w.precision() {
        Precision::F32 => product::<F32>(pool, a, rows, w, e, out),
        Precision::Bf16 => product::<Bf16>(pool, a, rows, w, e, out),
        Precision::Int8 => product::<Int8>(pool, a, rows, w, e, out),
    }
}

fn product<F: Format>(pool: &Pool, a: &[f32], rows: usize, w: &PackedMatrix, e: &Epilogue<'_>, out: &mut [f32]) {
    let grid = Grid::new(pool.threads(), rows, w);
    let call = next_call();
    let out = Parts::new(out);
    let level = w.level();
    pool.run(grid.row_blocks * grid.column_blocks, &|task| {
        let (block, column) = (task / grid.column_blocks, task % grid.column_blocks);
        let panels = grid.panels(column);
        scratch::with(|scratch| {
            let format = PhantomData::<F>;
            level.isa.run_with(
                level.dots,
                Block { a, w, e, out: &out, tiles: grid.tiles, block, grid: &grid, panels, call, scratch, format },
            );
        });
    });
}

/// Numbers the calls, so that a thread knows whether the rows it has copied are those of this one.
fn next_call() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    CALLS.fetch_add(1, Ordering::Relaxed)
}

struct Grid {
    tiles: Tiles,
    tiles_per_block: usize,
    row_blocks: usize,
    column_blocks: usize,
    all_panels: usize,
}

impl Grid {
    fn new(threads: usize, rows: usize, w: &PackedMatrix) -> Self {
        let tiles = Tiles::new(rows, w.tile());
        let fit = (BLOCK_WORDS / blocks_len(1, w.row_words()).max(1) / w.tile()).max(1);
        let wanted_blocks = threads * TASKS_PER_THREAD;
        // Where there are rows enough, tasks are row blocks only: two of one block on two threads would both copy its rows.
        let fit = if threads > 1 && tiles.count >= wanted_blocks * FEWEST_TILES {
            fit.min(tiles.count / wanted_blocks)
        } else {
            fit
        };
        let row_blocks = tiles.count.div_ceil(fit);
        let tiles_per_block = tiles.count.div_ceil(row_blocks);
        let row_blocks = tiles.count.div_ceil(tiles_per_block);
        let all_panels = w.panels();
        let column_blocks = if threads == 1 || row_blocks >= wanted_blocks {
            1
        } else {
            let wanted = wanted_blocks.div_ceil(row_blocks);
            let panel_work = (rows.div_ceil(row_blocks) * w.panel_words() * w.panel_width()).max(1);
            let fewest = TASK_WORK.div_ceil(panel_work);
            wanted.min(all_panels.div_ceil(fewest)).max(1)
        };
        Self { tiles, tiles_per_block, row_blocks, column_blocks, all_panels }
    }

    /// The panels of a column block.
    fn panels(&self, column: usize) -> std::ops::Range<usize> {
        let start = |c: usize| c * self.all_panels / self.column_blocks;
        start(column)..start(column + 1)
    }
}

/// One task: a block of rows times a run of panels.
struct Block<'a, F> {
    a: &'a [f32],
    w: &'a PackedMatrix,
    e: &'a Epilogue<'a>,
    out: &'a Parts<'a>,
    tiles: Tiles,
    grid: &'a Grid,
    block: usize,
    panels: std::ops::Range<usize>,
    call: u64,
    scratch: &'a mut Scratch,
    format: PhantomData<F>,
}

impl<F: Format> Kernel for Block<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, w, e, out, tiles, grid, block, panels, call, scratch, format: _ } = self;
        let (k, row_words) = (w.k(), w.row_words());
        let first_tile = block * grid.tiles_per_block;
        let end_tile = (first_tile + grid.tiles_per_block).min(tiles.count);
        let first_row = tiles.start(first_tile);
        let rows = tiles.start(end_tile) - first_row;
        let product_len = MAX_TILE * w.panel_width();
        let packed_already = scratch.holds == (call, block);
        scratch.holds = (call, block);
        let packed_len = blocks_len(rows, row_words);
        let memory = scratch.buffer.at_least(packed_len + product_len + 2 * rows);
        let (packed, memory) = memory.split_at_mut(packed_len);
        let (product, memory) = memory.split_at_mut(product_len);
        let (steps, shifts) = memory.split_at_mut(rows);
        if !packed_already {
            for tile in first_tile..end_tile {
                let (start, end) = (tiles.start(tile), tiles.start(tile + 1));
                let to = &mut packed[blocks_len(start - first_row, row_words)..][..blocks_len(end - start, row_words)];
                for row in start..end {
                    let from = &a[row * k..(row + 1) * k];
                    // SAFETY: `to` has the blocks of the rows of this tile.
                    let scale = unsafe { F::pack_row(s, from, end - start, row - start, to.as_mut_ptr()) };
                    steps[row - first_row] = scale.step;
                    shifts[row - first_row] = scale.shift;
                }
            }
        }
        let tile = |index: usize| {
            let (start, end) = (tiles.start(index), tiles.start(index + 1));
            let a = &packed[blocks_len(start - first_row, row_words)..][..blocks_len(end - start, row_words)];
            let within = start - first_row..end - first_row;
            (start, a, Scales { steps: &steps[within.clone()], shifts: &shifts[within] })
        };
        for panel in panels {
            let b = w.panel(panel);
            let words = w.panel_words();
            if let Some(columns) = whole_columns(s, w, e, panel) {
                for index in first_tile..end_tile {
                    let (start, a, scales) = tile(index);
                    let at = panel * 2 * S::LANES;
                    let (to, residual) = places(w, e, out, (start, scales.steps.len()), (at, 2 * S::LANES));
                    let finish = Sum { to, residual, stride: w.rows_out(), columns: &columns, scales };
                    let operands = (a.as_ptr(), words, b.as_ptr());
                    // SAFETY: `a` has the blocks of the rows that `finish` is of, and the panel goes with them.
                    unsafe { tile::multiply_to::<S, F>(s, scales.steps.len(), operands, &finish) };
                }
                continue;
            }
            for index in first_tile..end_tile {
                let (start, a, scales) = tile(index);
                let rows = scales.steps.len();
                // SAFETY: `a` has the blocks of these rows, the panel goes with them, and `product` takes a tile of any size.
                unsafe {
                    let to = product.as_mut_ptr();
                    tile::multiply::<S, F>(s, rows, a.as_ptr(), words, b.as_ptr(), to, 2 * S::LANES);
                }
                let product = &product[..rows * 2 * S::LANES];
                finish::<S, F>(s, &TileProduct { w, e, out, panel, first_row: start, product, scales });
            }
        }
    }
}

/// A step and a shift for each row of a tile.
#[derive(Clone, Copy)]
struct Scales<'a> {
    steps: &'a [f32],
    shifts: &'a [f32],
}

/// What is added to the columns of a vector, and what their integers stand for.
#[derive(Clone, Copy)]
struct Columns<S: Simd> {
    bias: S::V,
    integers: [S::V; 2],
}

impl<S: Simd> Columns<S> {
    #[inline(always)]
    fn read(s: S, w: &PackedMatrix, e: &Epilogue<'_>, first: usize, count: usize) -> Self {
        Self { bias: read_bias(s, e.bias, first, count), integers: read_integers(s, w, first, count) }
    }
}

/// The columns of a panel of two whole vectors to which nothing but a bias and a residual is added.
#[inline(always)]
fn whole_columns<S: Simd>(s: S, w: &PackedMatrix, e: &Epilogue<'_>, panel: usize) -> Option<[Columns<S>; 2]> {
    let first = panel * 2 * S::LANES;
    if w.is_gated() || e.activation != Activation::Identity || first + 2 * S::LANES > w.rows_out() {
        return None;
    }
    Some([Columns::read(s, w, e, first, S::LANES), Columns::read(s, w, e, first + S::LANES, S::LANES)])
}

/// Where the rows of a tile, `rows` from `first` on, have these columns in the result, and in what is added to it.
#[inline(always)]
fn places(
    w: &PackedMatrix,
    e: &Epilogue<'_>,
    out: &Parts<'_>,
    (first, rows): (usize, usize),
    (column, columns): (usize, usize),
) -> (*mut f32, Option<*const f32>) {
    let n = w.rows_out();
    let first = first * n + column;
    let to = out.rows(first, n, rows, columns);
    let residual = match e.residual {
        Residual::None => None,
        Residual::Add(residual) => Some(residual[first..first + (rows - 1) * n + columns].as_ptr()),
        Residual::InPlace => Some(to.cast_const()),
    };
    (to, residual)
}

/// `sum + bias + residual` of the rows of a tile.
struct Sum<'a, S: Simd> {
    to: *mut f32,
    residual: Option<*const f32>,
    stride: usize,
    columns: &'a [Columns<S>; 2],
    scales: Scales<'a>,
}

impl<S: Simd, F: Format> Finish<S, F> for Sum<'_, S> {
    #[inline(always)]
    unsafe fn row(&self, s: S, row: usize, sums: [F::Sum<S>; 2]) {
        // SAFETY: the tile has this row, and the slices and places are of all its rows. The grid gives these rows of these
        // columns to this task alone.
        unsafe {
            let scale =
                Scale { step: *self.scales.steps.get_unchecked(row), shift: *self.scales.shifts.get_unchecked(row) };
            let to = self.to.add(row * self.stride);
            let mut first = F::value(s, sums[0], scale, self.columns[0].integers, self.columns[0].bias);
            let mut second = F::value(s, sums[1], scale, self.columns[1].integers, self.columns[1].bias);
            if let Some(residual) = self.residual {
                let residual = residual.add(row * self.stride);
                first = s.add(first, s.load(residual));
                second = s.add(second, s.load(residual.add(S::LANES)));
            }
            s.store(to, first);
            s.store(to.add(S::LANES), second);
        }
    }
}

/// Bias, activation, gate and residual of one tile, whose product is in the first cache, into its rows.
#[inline(always)]
fn finish<S: Simd, F: Format>(s: S, tile: &TileProduct<'_>) {
    match tile.e.activation {
        Activation::Identity => finish_with::<S, F, activation::Identity>(s, tile),
        Activation::GeluErf if F::COARSE => finish_with::<S, F, activation::GeluErfCoarse>(s, tile),
        Activation::GeluErf => finish_with::<S, F, activation::GeluErf>(s, tile),
        Activation::GeluTanh => finish_with::<S, F, activation::GeluTanh>(s, tile),
        Activation::Silu => finish_with::<S, F, activation::Silu>(s, tile),
        Activation::Relu => finish_with::<S, F, activation::Relu>(s, tile),
        Activation::Tanh => finish_with::<S, F, activation::Tanh>(s, tile),
    }
}

/// The product of a tile and a panel, and where it goes.
struct TileProduct<'a> {
    w: &'a PackedMatrix,
    e: &'a Epilogue<'a>,
    out: &'a Parts<'a>,
    panel: usize,
    first_row: usize,
    /// `[rows][2 LANES]`, as the format stores sums.
    product: &'a [f32],
    scales: Scales<'a>,
}

#[inline(always)]
fn finish_with<S: Simd, F: Format, A: Function>(s: S, t: &TileProduct<'_>) {
    let (n, rows) = (t.w.rows_out(), t.product.len() / (2 * S::LANES));
    // A gated panel holds one vector of gates and the vector that they gate; a plain one two vectors of columns.
    let gated = t.w.is_gated();
    let vectors = if gated { 1 } else { 2 };
    let (steps, shifts) = (&t.scales.steps[..rows], &t.scales.shifts[..rows]);
    for vector in 0..vectors {
        let column = (t.panel * vectors + vector) * S::LANES;
        if column >= n {
            break;
        }
        let count = S::LANES.min(n - column);
        let columns = Columns::read(s, t.w, t.e, column, count);
        let up = if gated { Columns::read(s, t.w, t.e, n + column, count) } else { columns };
        let (to, residual) = places(t.w, t.e, t.out, (t.first_row, rows), (column, count));
        for r in 0..rows {
            let scale = Scale { step: steps[r], shift: shifts[r] };
            // SAFETY: the product has `rows` rows, and so have `to` and the residual, by `places`. The grid gives these rows of these
            // columns to this task alone.
            unsafe {
                let sums = t.product.as_ptr().add(r * 2 * S::LANES);
                let sum = F::load(s, sums.add(vector * S::LANES));
                let mut v = A::of(s, F::value(s, sum, scale, columns.integers, columns.bias));
                if gated {
                    let sum = F::load(s, sums.add(S::LANES));
                    v = s.mul(v, F::value(s, sum, scale, up.integers, up.bias));
                }
                if count == S::LANES {
                    if let Some(residual) = residual {
                        v = s.add(v, s.load(residual.add(r * n)));
                    }
                    s.store(to.add(r * n), v);
                } else {
                    if let Some(residual) = residual {
                        v = s.add(v, s.load_first(residual.add(r * n), count));
                    }
                    s.store_first(to.add(r * n), count, v);
                }
            }
        }
    }
}

#[inline(always)]
fn read_bias<S: Simd>(s: S, bias: Option<&[f32]>, first: usize, columns: usize) -> S::V {
    match bias {
        Some(bias) => s.read(&bias[first..first + columns]),
        None => s.zero(),
    }
}

/// The steps and the sums of a vector of columns.
#[inline(always)]
fn read_integers<S: Simd>(s: S, w: &PackedMatrix, first: usize, columns: usize) -> [S::V; 2] {
    match w.integers() {
        Some(i) => [s.read(&i.steps[first..first + columns]), s.read(&i.sums[first..first + columns])],
        None => [s.zero(); 2],
    }
}

#[cfg(test)]
mod tests;
