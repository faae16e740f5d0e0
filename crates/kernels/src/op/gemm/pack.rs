//! Weights in the order in which the micro-kernel reads them, and as bytes that outlive the process.

use super::Precision;
use crate::Isa;
use crate::isa::Dots;
use crate::scratch::Buffer;
use crate::simd::{Kernel, Simd, to_bf16};
use crate::tile::{self, Bf16, F32, Format, Int8, row_words};
use std::borrow::Cow;
use std::sync::Arc;

/// Counts the forms that packed weights have had. It is raised with every change of what the words or the integers of a matrix are,
/// so that bytes of an older form are not taken for one of this form; a test knows the bytes of each form.
pub(crate) const FORM: u32 = 1;

/// A weight matrix packed for the instructions in use: panels of two vectors of columns, each `[words][panel width]`, columns behind
/// the last one 0. A word holds one value of f32, two of bf16 or four of int8, neighbours in `k`.
///
/// A clone shares the weights.
#[derive(Clone)]
pub struct PackedMatrix {
    level: Level,
    precision: Precision,
    n: usize,
    k: usize,
    gated: bool,
    shape: Shape,
    data: Words,
    /// Of int8 only.
    integers: Option<Arc<Integers>>,
}

/// Where the panels are.
#[derive(Clone)]
enum Words {
    Own(Arc<Buffer>),
    /// At the start of these bytes.
    Lent(Image),
}

/// Bytes that somebody keeps, as those of a mapped file.
pub type Image = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The instructions a matrix is multiplied with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub(crate) isa: Isa,
    /// Those that multiply its numbers, where the machine has some.
    pub(crate) dots: Option<Dots>,
}

impl Level {
    pub(crate) fn active(precision: Precision) -> Self {
        let isa = Isa::active();
        Self { isa, dots: precision.numbers().and_then(|numbers| isa.dots(numbers)) }
    }
}

/// What the level makes of the matrix.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Rows of the largest tile.
    tile: usize,
    /// Columns of a panel.
    width: usize,
    /// Words of a packed row of activations.
    row_words: usize,
}

/// What the integers of a matrix stand for.
pub(crate) struct Integers {
    /// The step of each column: `w = step q`.
    pub(crate) steps: Vec<f32>,
    /// The sum of the integers of each column.
    pub(crate) sums: Vec<f32>,
}

impl PackedMatrix {
    /// Packs `weights`, `[n, k]`: one row an output, as `torch.nn.Linear` keeps them.
    ///
    /// # Panics
    /// Where `weights` has another size.
    pub fn pack(precision: Precision, n: usize, k: usize, weights: &[f32]) -> Self {
        Self::pack_for(Level::active(precision), precision, n, k, weights)
    }

    /// Packs two matrices `[n, k]` column by column, so that `act(a Gᵀ) ⊙ (a Uᵀ)` is one product with `n` outputs.
    ///
    /// # Panics
    /// Where one of them has another size.
    pub fn pack_gated(precision: Precision, n: usize, k: usize, gate: &[f32], up: &[f32]) -> Self {
        Self::pack_gated_for(Level::active(precision), precision, n, k, gate, up)
    }

    pub(crate) fn pack_for(level: Level, precision: Precision, n: usize, k: usize, weights: &[f32]) -> Self {
        assert_eq!(weights.len(), n * k, "weights are [{n}, {k}]");
        let (words, integers) = words(precision, k, weights);
        Self::of_words(level, precision, (n, k), &words, None, integers)
    }

    pub(crate) fn pack_gated_for(
        level: Level,
        precision: Precision,
        n: usize,
        k: usize,
        gate: &[f32],
        up: &[f32],
    ) -> Self {
        assert_eq!((gate.len(), up.len()), (n * k, n * k), "gate and up are [{n}, {k}]");
        let ((gate, integers), (up, more)) = (words(precision, k, gate), words(precision, k, up));
        let integers = integers.zip(more).map(|(mut all, more)| {
            all.steps.extend(more.steps);
            all.sums.extend(more.sums);
            all
        });
        Self::of_words(level, precision, (n, k), &gate, Some(&up), integers)
    }

    fn of_words(
        level: Level,
        precision: Precision,
        (n, k): (usize, usize),
        words: &[f32],
        up: Option<&[f32]>,
        integers: Option<Integers>,
    ) -> Self {
        let shape = level.isa.run_with(level.dots, Measure { precision, k });
        let (integers, gated) = (integers.map(Arc::new), up.is_some());
        let mut packed = Self { level, precision, n, k, gated, shape, data: Words::Own(Arc::default()), integers };
        let mut data = Buffer::zeroed(packed.words());
        level.isa.run(Pack { matrix: &packed, words, up, to: data.as_mut_slice() });
        packed.data = Words::Own(Arc::new(data));
        packed
    }

    /// Names the form that [`PackedMatrix::image`] has in this process: numbers, instructions, version and byte order. Bytes of one
    /// form are of no use in another.
    pub fn form(precision: Precision) -> String {
        let level = Level::active(precision);
        let dots = level.dots.map_or("none", Dots::name);
        let order = if cfg!(target_endian = "little") { "little" } else { "big" };
        format!("{} {FORM} {precision:?} {} {dots} {order}", env!("CARGO_PKG_VERSION"), level.isa.name())
    }

    /// Bytes of a matrix of `n` outputs and `k` inputs, gated where it is two, in the form that it has in this process; no weights are
    /// needed.
    pub fn packed_bytes(precision: Precision, (n, k): (usize, usize), gated: bool) -> usize {
        let level = Level::active(precision);
        let shape = level.isa.run_with(level.dots, Measure { precision, k });
        let matrix = Self { level, precision, n, k, gated, shape, data: Words::Own(Arc::default()), integers: None };
        let integers = if precision == Precision::Int8 && k > 0 { 2 * matrix.columns() } else { 0 };
        size_of::<f32>() * (matrix.words() + integers)
    }

    /// The matrix as runs of bytes, one behind the other: the panels; then, of integers, the step of each column and the sum
    /// of each column.
    pub fn image(&self) -> Vec<&[u8]> {
        let mut runs = vec![as_bytes(&self.data()[..self.words()])];
        if let Some(i) = &self.integers {
            runs.extend([as_bytes(&i.steps), as_bytes(&i.sums)]);
        }
        runs
    }

    /// The matrix whose image this is, `n` outputs of `k` inputs, its panels lent by it; nothing where the bytes have not the length
    /// that such a matrix has, or do not begin at a multiple of 4. That they are its bytes, of the present form, is up to the caller:
    /// others make a matrix of other numbers.
    pub fn from_image(precision: Precision, (n, k): (usize, usize), gated: bool, image: Image) -> Option<Self> {
        let level = Level::active(precision);
        let shape = level.isa.run_with(level.dots, Measure { precision, k });
        let mut matrix =
            Self { level, precision, n, k, gated, shape, data: Words::Own(Arc::default()), integers: None };
        let words = matrix.checked_words()?;
        let all = as_words((*image).as_ref())?;
        let rest = all.get(words..)?;
        if precision == Precision::Int8 && k > 0 {
            let columns = matrix.columns();
            let (steps, rest) = rest.split_at_checked(columns)?;
            let (sums, rest) = rest.split_at_checked(columns)?;
            if !rest.is_empty() {
                return None;
            }
            matrix.integers = Some(Arc::new(Integers { steps: steps.to_vec(), sums: sums.to_vec() }));
        } else if !rest.is_empty() {
            return None;
        }
        matrix.data = Words::Lent(image);
        Some(matrix)
    }

    /// The width of a row of the product.
    pub fn rows_out(&self) -> usize {
        self.n
    }

    /// The width of a row that is multiplied.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The numbers it is made of.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Memory of the packed form.
    pub fn bytes(&self) -> usize {
        size_of_val(self.data())
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    pub(crate) fn tile(&self) -> usize {
        self.shape.tile
    }

    pub(crate) fn row_words(&self) -> usize {
        self.shape.row_words
    }

    pub(crate) fn integers(&self) -> Option<&Integers> {
        self.integers.as_deref()
    }

    pub(crate) fn is_gated(&self) -> bool {
        self.gated
    }

    /// Columns of the product before gating: what a bias has.
    pub(crate) fn columns(&self) -> usize {
        if self.gated { 2 * self.n } else { self.n }
    }

    pub(crate) fn panel_width(&self) -> usize {
        self.shape.width
    }

    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(if self.gated { self.shape.width / 2 } else { self.shape.width })
    }

    /// Words of a column.
    pub(crate) fn panel_words(&self) -> usize {
        self.k.div_ceil(self.precision.values_a_word())
    }

    /// Words of all panels.
    fn words(&self) -> usize {
        self.panels() * self.panel_words() * self.shape.width
    }

    /// As [`Self::words`], for sizes that no memory has been found for yet.
    fn checked_words(&self) -> Option<usize> {
        self.n.checked_mul(2)?;
        self.panels().checked_mul(self.panel_words())?.checked_mul(self.shape.width)
    }

    /// The panels, and what may lie behind them.
    fn data(&self) -> &[f32] {
        match &self.data {
            Words::Own(data) => data.as_slice(),
            Words::Lent(image) => as_words((**image).as_ref()).expect("it was whole words when it was lent"),
        }
    }

    /// A panel, `[words][panel width]`.
    pub(crate) fn panel(&self, index: usize) -> &[f32] {
        let len = self.panel_words() * self.shape.width;
        &self.data()[index * len..(index + 1) * len]
    }
}

fn as_bytes(words: &[f32]) -> &[u8] {
    // SAFETY: every byte of a float is a byte, and the slice is of the same memory for as long.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// Nothing where the bytes are not whole words in their places.
fn as_words(bytes: &[u8]) -> Option<&[f32]> {
    // SAFETY: every 32 bits are a float.
    match unsafe { bytes.align_to() } {
        ([], words, []) => Some(words),
        _ => None,
    }
}

/// Rows of `k` values as rows of words.
fn words(precision: Precision, k: usize, weights: &[f32]) -> (Cow<'_, [f32]>, Option<Integers>) {
    if k == 0 || precision == Precision::F32 {
        return (Cow::Borrowed(weights), None);
    }
    let rows = weights.chunks_exact(k);
    let mut words = Vec::with_capacity(rows.len() * k.div_ceil(precision.values_a_word()));
    if precision == Precision::Bf16 {
        for pair in rows.flat_map(|row| row.chunks(2)) {
            let high = pair.get(1).map_or(0, |&x| to_bf16(x));
            words.push(f32::from_bits(u32::from(to_bf16(pair[0])) | u32::from(high) << 16));
        }
        return (Cow::Owned(words), None);
    }
    let mut integers = Integers { steps: Vec::new(), sums: Vec::new() };
    for row in rows {
        let largest = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let step = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let mut sum = 0;
        for quad in row.chunks(4) {
            let mut bytes = [0; 4];
            for (byte, x) in bytes.iter_mut().zip(quad) {
                let q = (x / step).round_ties_even() as i8;
                sum += i64::from(q);
                *byte = q as u8;
            }
            words.push(f32::from_bits(u32::from_le_bytes(bytes)));
        }
        integers.steps.push(step);
        integers.sums.push(sum as f32);
    }
    (Cow::Owned(words), Some(integers))
}

/// Asks the level for its shape.
struct Measure {
    precision: Precision,
    k: usize,
}

impl Kernel for Measure {
    type Output = Shape;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Shape {
        let (tile, row_words) = match self.precision {
            Precision::F32 => (F32::tile::<S>(), row_words::<S, F32>(self.k)),
            Precision::Bf16 => (Bf16::tile::<S>(), row_words::<S, Bf16>(self.k)),
            Precision::Int8 => (Int8::tile::<S>(), row_words::<S, Int8>(self.k)),
        };
        Shape { tile, width: 2 * S::LANES, row_words }
    }
}

struct Pack<'a> {
    matrix: &'a PackedMatrix,
    words: &'a [f32],
    up: Option<&'a [f32]>,
    to: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { matrix, words, up, to } = self;
        let (n, k, width, panels) = (matrix.n, matrix.panel_words(), matrix.shape.width, matrix.panels());
        for (panel, to) in to.chunks_exact_mut((k * width).max(1)).enumerate().take(panels) {
            let (low, high) = match up {
                None => ((words, panel * width), (words, panel * width + S::LANES)),
                Some(up) => ((words, panel * S::LANES), (up, panel * S::LANES)),
            };
            for (half, (matrix, column)) in [low, high].into_iter().enumerate() {
                let column = column.min(n);
                let count = S::LANES.min(n - column);
                tile::pack_columns(s, (&matrix[column * k..], k, count), k, (&mut to[half * S::LANES..], width));
            }
        }
    }
}
