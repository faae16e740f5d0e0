//! Comparing vectors.

use embral_types::Embeddings;

/// Comparing the vectors of a set with each other or with another set.
pub trait Similarity {
    /// The dot product of every vector with every vector of `other`, one row a vector, `[self.len(), other.len()]`: the cosine where
    /// both are normalised. An element is the same, bit for bit, whatever other vectors there are.
    ///
    /// # Panics
    /// Where the widths differ.
    fn similarity_matrix(&self, other: &Self) -> Self;
}

impl Similarity for Embeddings {
    fn similarity_matrix(&self, other: &Self) -> Self {
        Self::new(similarity(self, other), other.len())
    }
}

/// The dot product of every row of `a` with every row of `b`, `[a.len(), b.len()]` row-major: the cosine where both are
/// normalised.
///
/// # Panics
/// Where the widths differ.
pub fn similarity(a: &Embeddings, b: &Embeddings) -> Vec<f32> {
    assert_eq!(a.dim(), b.dim(), "vectors of one width are compared");
    let mut out = vec![0.0; a.len() * b.len()];
    if !out.is_empty() {
        let pool = embral_kernels::Pool::shared(None);
        embral_kernels::op::similarity::dot_matrix(&pool, a.as_slice(), b.as_slice(), a.dim(), &mut out);
    }
    out
}

/// The `k` rows with the largest dot product with `query`, best first; equal scores in row order.
///
/// # Panics
/// Where the widths differ and there are rows.
pub fn top_k(query: &[f32], rows: &Embeddings, k: usize) -> Vec<(usize, f32)> {
    if rows.is_empty() {
        return Vec::new();
    }
    let scores = similarity(&Embeddings::new(query.to_vec(), query.len()), rows);
    crate::ranking::best(scores, k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_ties_in_order() {
        let rows = Embeddings::new(vec![1., 0., 0., 1., 1., 0., 0.5, 0.5], 2);
        assert_eq!(top_k(&[1., 0.], &rows, 3), [(0, 1.0), (2, 1.0), (3, 0.5)]);
        assert_eq!(top_k(&[1., 0.], &rows, 9).len(), 4);
        assert_eq!(similarity(&rows, &rows)[..4], [1., 0., 1., 0.5]);
        assert!(top_k(&[1., 0.], &Embeddings::default(), 3).is_empty());
    }

    #[test]
    fn the_matrix_has_a_row_for_each_vector() {
        let a = Embeddings::new(vec![1., 0., 0., 1., 0.5, 0.5], 2);
        let b = Embeddings::new(vec![1., 2., 3., 4.], 2);
        let matrix = a.similarity_matrix(&b);
        assert_eq!((matrix.len(), matrix.dim(), matrix.as_slice()), (3, 2, &[1., 3., 2., 4., 1.5, 3.5][..]));
        assert!(a.similarity_matrix(&Embeddings::new(vec![], 2)).is_empty());
    }
}
