//! Packed matrices kept in a file from one start to the next.

use embral_backend::Dense;
use embral_formats::packed::{self, PackedFile};
use embral_kernels::op::gemm::{PackedMatrix, Precision};
use embral_types::Result;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// The packed matrices of one model in one precision: those that its file lends, and those that it does not have yet.
///
/// A matrix is found by a hash of everything that it was packed from, and so never stands for other weights. The file as a whole is
/// good for one form of packed weights: version, numbers and instructions.
pub struct PackedWeights {
    path: PathBuf,
    precision: Precision,
    purpose: u128,
    /// None where there is no file, or none that is whole.
    file: Option<PackedFile>,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    matrices: Vec<(u128, PackedMatrix)>,
    /// Whether one of them was not in the file.
    missed: bool,
}

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It had every matrix.
    Found,
    /// It was written, with so many bytes.
    Written(u64),
}

impl PackedWeights {
    /// Names the form of packed weights of that precision in this process: version, numbers and instructions.
    pub fn form(precision: embral_types::Precision) -> String {
        PackedMatrix::form(crate::ops::numbers(precision))
    }

    /// Opens the file, where it is there and good.
    pub fn open(path: PathBuf, precision: embral_types::Precision) -> Self {
        let precision = crate::ops::numbers(precision);
        let purpose = packed::hash(PackedMatrix::form(precision).as_bytes());
        let file = PackedFile::open(&path, purpose).ok();
        Self { path, precision, purpose, file, used: Mutex::default() }
    }

    /// The matrix that `parts` make, lent by the file or else made by `pack`. `shape` is that of the matrix.
    pub(crate) fn matrix(
        &self,
        parts: &[Dense<'_>],
        shape: (usize, usize),
        gated: bool,
        pack: impl FnOnce() -> PackedMatrix,
    ) -> PackedMatrix {
        let key = key(parts, gated);
        let run = self.file.as_ref().and_then(|file| file.get(key));
        let lent = run.and_then(|run| PackedMatrix::from_image(self.precision, shape, gated, Arc::new(run)));
        let missed = lent.is_none();
        let matrix = lent.unwrap_or_else(pack);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.missed |= missed;
        used.matrices.push((key, matrix.clone()));
        matrix
    }

    /// The numbers that it keeps matrices of.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Writes the file anew where it did not have every matrix.
    pub(crate) fn keep(self) -> Result<Kept> {
        let used = self.used.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !used.missed {
            return Ok(Kept::Found);
        }
        let runs: Vec<_> = used.matrices.iter().map(|(key, matrix)| (*key, matrix.image())).collect();
        packed::write(&self.path, self.purpose, &runs).map(Kept::Written)
    }
}

/// A hash of all that a packed matrix depends on but its form: formats, shapes and values of the weights. Biases stay outside.
fn key(parts: &[Dense<'_>], gated: bool) -> u128 {
    let mut all = vec![u8::from(gated)];
    for part in parts {
        all.extend(format!("{} {:?};", part.weight.dtype(), part.weight.shape()).into_bytes());
        all.extend(packed::hash(part.weight.bytes()).to_le_bytes());
    }
    packed::hash(&all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use embral_backend::Backend;
    use embral_types::{Activation, Tensor};

    const PRECISIONS: [embral_types::Precision; 3] = embral_types::Precision::ALL;

    fn values(seed: u32, len: usize) -> Vec<f32> {
        (0..len as u32).map(|i| ((i * 37 + seed * 101) % 211) as f32 / 105.0 - 1.0).collect()
    }

    fn dense(seed: u32, n: usize, k: usize) -> Dense<'static> {
        Dense { weight: Tensor::from_f32(vec![n, k], &values(seed, n * k)), bias: None }
    }

    /// A plain and a gated layer, applied one after the other.
    fn products(backend: &Cpu, precision: embral_types::Precision, seed: u32) -> Vec<u32> {
        let plain = backend.load_linear(&[dense(seed, 40, 21), dense(2, 3, 21)], precision).unwrap();
        let gated = backend.load_gated(&dense(3, 37, 43), &dense(4, 37, 43), precision).unwrap();
        let mut x = backend.buffer(5, 21).unwrap();
        x.values_mut().copy_from_slice(&values(9, 5 * 21));
        let (mut y, mut z) = (backend.buffer(5, 43).unwrap(), backend.buffer(5, 37).unwrap());
        backend.linear(&x, &plain, Activation::Identity, &mut y).unwrap();
        backend.linear(&y, &gated, Activation::Silu, &mut z).unwrap();
        z.values().iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn lent_matrices_give_the_same_bits_and_other_weights_are_packed_anew() {
        for precision in PRECISIONS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("m.packed");
            let alone = products(&Cpu::new(Some(1)), precision, 1);
            let start = |seed| {
                let mut backend = Cpu::new(Some(1)).with_packed(PackedWeights::open(path.clone(), precision));
                let bits = products(&backend, precision, seed);
                (bits, backend.keep_packed().unwrap().unwrap())
            };
            let (bits, kept) = start(1);
            assert_eq!(bits, alone);
            assert!(matches!(kept, Kept::Written(_)), "{kept:?}");
            assert_eq!(start(1), (alone.clone(), Kept::Found));
            let (bits, kept) = start(5);
            assert_eq!(bits, products(&Cpu::new(Some(1)), precision, 5));
            assert!(matches!(kept, Kept::Written(_)), "{kept:?}");

            let mut damaged = std::fs::read(&path).unwrap();
            *damaged.last_mut().unwrap() ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let (bits, kept) = start(5);
            assert_eq!(bits, products(&Cpu::new(Some(1)), precision, 5));
            assert!(matches!(kept, Kept::Written(_)), "{kept:?}");
            std::fs::write(&path, &damaged[..damaged.len() / 2]).unwrap();
            assert!(matches!(start(5).1, Kept::Written(_)));
            assert_eq!(start(5).1, Kept::Found);
        }
    }

    #[test]
    fn a_file_serves_one_precision_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.packed");
        for precision in PRECISIONS {
            let mut backend = Cpu::new(Some(1)).with_packed(PackedWeights::open(path.clone(), precision));
            products(&backend, precision, 1);
            assert!(matches!(backend.keep_packed().unwrap(), Ok(Kept::Written(_))));
            assert!(backend.keep_packed().is_none());
        }
        let [f32, .., int8] = PRECISIONS;
        let mut backend = Cpu::new(Some(1)).with_packed(PackedWeights::open(path, int8));
        let bits = products(&backend, f32, 1);
        assert_eq!(bits, products(&Cpu::new(Some(1)), f32, 1));
        assert_eq!(backend.keep_packed().unwrap().unwrap(), Kept::Found, "layers of other numbers are not kept");
    }
}
