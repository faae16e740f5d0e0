//! Vectors of equal width in one buffer.

/// `len()` vectors of `dim()` components in one contiguous row-major buffer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    data: Vec<f32>,
    dim: usize,
}

impl Embeddings {
    /// Takes `data`, `[n, dim]` row-major.
    ///
    /// # Panics
    /// Where `dim` is 0 while there is data, or `data.len()` is no multiple of `dim`.
    pub fn new(data: Vec<f32>, dim: usize) -> Self {
        assert!(
            if dim == 0 { data.is_empty() } else { data.len().is_multiple_of(dim) },
            "{} values are no whole number of rows of {dim}",
            data.len()
        );
        Self { data, dim }
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.dim).unwrap_or(0)
    }

    /// Whether there is no vector.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The number of components of each vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// One vector.
    ///
    /// # Panics
    /// Where `index >= len()`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.dim..(index + 1) * self.dim]
    }

    /// One vector, or nothing where there is no such row.
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        (index < self.len()).then(|| self.row(index))
    }

    /// The vectors in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.dim.max(1))
    }

    /// All components, `[n, dim]` row-major.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    /// All components, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Gives the buffer away.
    pub fn into_vec(self) -> Vec<f32> {
        self.data
    }
}

impl<'a> IntoIterator for &'a Embeddings {
    type Item = &'a [f32];
    type IntoIter = std::slice::ChunksExact<'a, f32>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows()
    }
}

impl std::ops::Index<usize> for Embeddings {
    type Output = [f32];

    fn index(&self, index: usize) -> &[f32] {
        self.row(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_views_of_one_buffer() {
        let e = Embeddings::new(vec![1., 2., 3., 4., 5., 6.], 3);
        assert_eq!((e.len(), e.dim(), e.row(1), e.get(2)), (2, 3, &[4., 5., 6.][..], None));
        assert_eq!(e.rows().collect::<Vec<_>>(), [&e[0], &e[1]]);
        assert!(Embeddings::default().is_empty());
    }

    #[test]
    #[should_panic(expected = "no whole number of rows")]
    fn a_broken_shape_is_refused() {
        let _ = Embeddings::new(vec![0.; 5], 3);
    }
}
