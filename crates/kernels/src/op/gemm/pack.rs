//! Weights in the order in which the micro-kernel reads them.

use crate::Isa;
use crate::scratch::Buffer;
use crate::simd::{Kernel, Simd};
use crate::tile;

/// A weight matrix packed for the instruction set in use: panels of two vectors of columns, each `[k][panel width]`, columns behind
/// the last one 0.
pub struct PackedMatrix {
    isa: Isa,
    n: usize,
    k: usize,
    gated: bool,
    /// Rows of a tile of this level.
    tile: usize,
    width: usize,
    data: Buffer,
}

impl PackedMatrix {
    /// Packs `weights`, `[n, k]`: one row an output, as `torch.nn.Linear` keeps them.
    ///
    /// # Panics
    /// Where `weights` has another size.
    pub fn pack(n: usize, k: usize, weights: &[f32]) -> Self {
        Self::pack_for(Isa::active(), n, k, weights)
    }

    /// Packs two matrices `[n, k]` column by column, so that `act(a Gᵀ) ⊙ (a Uᵀ)` is one product with `n` outputs.
    ///
    /// # Panics
    /// Where one of them has another size.
    pub fn pack_gated(n: usize, k: usize, gate: &[f32], up: &[f32]) -> Self {
        Self::pack_gated_for(Isa::active(), n, k, gate, up)
    }

    pub(crate) fn pack_for(isa: Isa, n: usize, k: usize, weights: &[f32]) -> Self {
        assert_eq!(weights.len(), n * k, "weights are [{n}, {k}]");
        isa.run(Pack { isa, n, k, weights, up: None })
    }

    pub(crate) fn pack_gated_for(isa: Isa, n: usize, k: usize, gate: &[f32], up: &[f32]) -> Self {
        assert_eq!((gate.len(), up.len()), (n * k, n * k), "gate and up are [{n}, {k}]");
        isa.run(Pack { isa, n, k, weights: gate, up: Some(up) })
    }

    /// The width of a row of the product.
    pub fn rows_out(&self) -> usize {
        self.n
    }

    /// The width of a row that is multiplied.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Memory of the packed form.
    pub fn bytes(&self) -> usize {
        size_of_val(self.data.as_slice())
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    pub(crate) fn tile(&self) -> usize {
        self.tile
    }

    pub(crate) fn is_gated(&self) -> bool {
        self.gated
    }

    /// Columns of the product before gating: what a bias has.
    pub(crate) fn columns(&self) -> usize {
        if self.gated { 2 * self.n } else { self.n }
    }

    pub(crate) fn panel_width(&self) -> usize {
        self.width
    }

    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(if self.gated { self.width / 2 } else { self.width })
    }

    /// A panel, `[k][panel width]`.
    pub(crate) fn panel(&self, index: usize) -> &[f32] {
        let len = self.k * self.width;
        &self.data.as_slice()[index * len..(index + 1) * len]
    }
}

struct Pack<'a> {
    isa: Isa,
    n: usize,
    k: usize,
    weights: &'a [f32],
    up: Option<&'a [f32]>,
}

impl Kernel for Pack<'_> {
    type Output = PackedMatrix;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> PackedMatrix {
        let Self { isa, n, k, weights, up } = self;
        let width = 2 * S::LANES;
        let mut packed = PackedMatrix { isa, n, k, gated: up.is_some(), tile: S::TILE, width, data: Buffer::default() };
        let panels = packed.panels();
        packed.data = Buffer::zeroed(panels * k * width);
        let data = packed.data.as_mut_slice();
        for (panel, to) in data.chunks_exact_mut((k * width).max(1)).enumerate().take(panels) {
            let (low, high) = match up {
                None => ((weights, panel * width), (weights, panel * width + S::LANES)),
                Some(up) => ((weights, panel * S::LANES), (up, panel * S::LANES)),
            };
            for (half, (matrix, column)) in [low, high].into_iter().enumerate() {
                let column = column.min(n);
                let count = S::LANES.min(n - column);
                tile::pack_columns(s, (&matrix[column * k..], k, count), k, (&mut to[half * S::LANES..], width));
            }
        }
        packed
    }
}
