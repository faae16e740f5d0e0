//! Matrix products with weights that are packed once: `out = act(a Wᵀ + bias) + residual`, all rows of all sequences at once.
//!
//! Work is cut into a grid of row blocks (as many rows as keep their copy in the second cache) and column blocks (runs of panels).
//! Few rows are one row block, and the threads stream different panels; many rows are many row blocks. A task copies its rows once,
//! then runs every tile over every panel of its column block over the full depth.

mod pack;

pub use pack::PackedMatrix;

use super::activation::{self, Activation};
use crate::Pool;
use crate::parts::Parts;
use crate::scratch::{self, Scratch};
use crate::simd::{Kernel, Simd};
use crate::tile::{self, MAX_TILE, Tiles, blocks_len};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Values of packed rows a task keeps at most: 384 KiB, which leaves room for a panel in a second cache of 1 MiB.
const BLOCK_VALUES: usize = 96 << 10;
/// Multiplications a task does at least, about 2 µs.
const TASK_WORK: usize = 1 << 18;
/// Tasks a thread gets, where there is work for them: the last one of another thread is waited for.
const TASKS_PER_THREAD: usize = 12;

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
    let grid = Grid::new(pool.threads(), rows, w);
    let call = next_call();
    let out = Parts::new(out);
    pool.run(grid.row_blocks * grid.column_blocks, &|task| {
        let (block, column) = (task / grid.column_blocks, task % grid.column_blocks);
        let panels = grid.panels(column);
        scratch::with(|scratch| {
            w.isa().run(Block { a, w, e, out: &out, tiles: grid.tiles, block, grid: &grid, panels, call, scratch });
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
        let fit = (BLOCK_VALUES / blocks_len(1, w.k()).max(1) / w.tile()).max(1);
        let row_blocks = tiles.count.div_ceil(fit);
        let tiles_per_block = tiles.count.div_ceil(row_blocks);
        let row_blocks = tiles.count.div_ceil(tiles_per_block);
        let all_panels = w.panels();
        let column_blocks = if threads == 1 {
            1
        } else {
            let wanted = (threads * TASKS_PER_THREAD).div_ceil(row_blocks);
            let panel_work = (rows.div_ceil(row_blocks) * w.k() * w.panel_width()).max(1);
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
struct Block<'a> {
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
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, w, e, out, tiles, grid, block, panels, call, scratch } = self;
        let k = w.k();
        let first_tile = block * grid.tiles_per_block;
        let end_tile = (first_tile + grid.tiles_per_block).min(tiles.count);
        let first_row = tiles.start(first_tile);
        let rows = tiles.start(end_tile) - first_row;
        let packed = blocks_len(rows, k);
        let product_len = MAX_TILE * w.panel_width();
        let packed_already = scratch.holds == (call, block);
        scratch.holds = (call, block);
        let memory = scratch.buffer.at_least(packed + product_len);
        let (packed, product) = memory.split_at_mut(packed);
        if !packed_already {
            for tile in first_tile..end_tile {
                let (start, end) = (tiles.start(tile), tiles.start(tile + 1));
                let to = &mut packed[blocks_len(start - first_row, k)..][..blocks_len(end - start, k)];
                for row in start..end {
                    // SAFETY: `to` has the blocks of the rows of this tile.
                    unsafe {
                        tile::pack_row(&a[row * k..(row + 1) * k], end - start, row - start, to.as_mut_ptr());
                    }
                }
            }
        }
        for panel in panels {
            let b = w.panel(panel);
            for tile in first_tile..end_tile {
                let (start, end) = (tiles.start(tile), tiles.start(tile + 1));
                let from = &packed[blocks_len(start - first_row, k)..][..blocks_len(end - start, k)];
                // SAFETY: `from` has the blocks of these rows, the panel is of `k`, and `product` takes a tile of any size.
                unsafe {
                    let stride = 2 * S::LANES;
                    tile::multiply(s, end - start, from.as_ptr(), k, b.as_ptr(), product.as_mut_ptr(), stride);
                }
                finish(s, w, e, out, panel, start, &product[..(end - start) * 2 * S::LANES]);
            }
        }
    }
}

/// Bias, activation, gate and residual of one tile, whose `product` is in the first cache, into the rows from `first_row` on.
#[inline(always)]
fn finish<S: Simd>(
    s: S,
    w: &PackedMatrix,
    e: &Epilogue<'_>,
    out: &Parts<'_>,
    panel: usize,
    first_row: usize,
    product: &[f32],
) {
    let n = w.rows_out();
    // A gated panel holds one vector of gates and the vector that they gate; a plain one two vectors of columns.
    let (vectors, gated) = if w.is_gated() { (1, true) } else { (2, false) };
    for vector in 0..vectors {
        let column = (panel * vectors + vector) * S::LANES;
        if column >= n {
            break;
        }
        let columns = S::LANES.min(n - column);
        let bias = match e.bias {
            Some(bias) => s.read(&bias[column..column + columns]),
            None => s.zero(),
        };
        let up_bias = match e.bias {
            Some(bias) if gated => s.read(&bias[n + column..n + column + columns]),
            _ => s.zero(),
        };
        for (r, sums) in product.chunks_exact(2 * S::LANES).enumerate() {
            let at = (first_row + r) * n + column;
            let mut v = s.add(s.read(&sums[vector * S::LANES..(vector + 1) * S::LANES]), bias);
            v = activation::of(s, e.activation, v);
            if gated {
                v = s.mul(v, s.add(s.read(&sums[S::LANES..]), up_bias));
            }
            // SAFETY: the grid gives these rows of these columns to this task alone.
            let to = unsafe { out.get(at, columns) };
            match e.residual {
                Residual::None => {}
                Residual::Add(residual) => v = s.add(v, s.read(&residual[at..at + columns])),
                Residual::InPlace => v = s.add(v, s.read(to)),
            }
            s.write(to, v);
        }
    }
}

#[cfg(test)]
mod tests;
