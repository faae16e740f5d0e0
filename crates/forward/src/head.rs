//! What comes after pooling: dense layers and norms over one row a sequence.

use embral_backend::{Backend, Dense};
use embral_types::{Activation, NormKind, Precision, Result, Tensor};

/// One layer over pooled rows.
pub enum Head<B: Backend> {
    /// `act(x Wᵀ + b)`.
    Dense {
        /// The weights.
        linear: B::Linear,
        /// The function of the outputs.
        activation: Activation,
        /// The number of outputs.
        width: usize,
    },
    /// A norm over each row.
    Norm(B::Norm),
    /// Division by the Euclidean length.
    L2,
}

impl<B: Backend> Head<B> {
    /// A dense layer, in f32 whatever the body is in: it costs one row a text.
    ///
    /// # Errors
    /// Where the shapes of weight and bias disagree.
    pub fn dense(backend: &B, dense: Dense<'_>, activation: Activation) -> Result<Self> {
        let width = dense.weight.shape().first().copied().unwrap_or(0);
        Ok(Self::Dense { linear: backend.load_linear(&[dense], Precision::F32)?, activation, width })
    }

    /// A layer norm.
    ///
    /// # Errors
    /// Where the shapes of scale and shift disagree.
    pub fn layer_norm(backend: &B, gamma: &Tensor<'_>, beta: Option<&Tensor<'_>>, eps: f32) -> Result<Self> {
        Ok(Self::Norm(backend.load_norm(NormKind::Layer, gamma, beta, eps)?))
    }

    /// The number of outputs for `width` inputs.
    pub fn width(&self, width: usize) -> usize {
        match self {
            Self::Dense { width, .. } => *width,
            Self::Norm(_) | Self::L2 => width,
        }
    }

    /// Applies the layer to `x`, `[rows, width]`.
    pub fn apply(&self, backend: &B, x: B::Buffer, rows: usize, width: usize) -> Result<B::Buffer> {
        match self {
            Self::Norm(n) => {
                let mut x = x;
                backend.norm_in_place(&mut x, n)?;
                Ok(x)
            }
            _ => self.applied(backend, &x, rows, width),
        }
    }

    /// As [`Head::apply`], and leaves `x` as it is.
    pub fn applied(&self, backend: &B, x: &B::Buffer, rows: usize, width: usize) -> Result<B::Buffer> {
        let mut y = backend.buffer(rows, self.width(width))?;
        match self {
            Self::Dense { linear, activation, .. } => backend.linear(x, linear, *activation, &mut y)?,
            Self::Norm(n) => backend.norm(x, n, &mut y)?,
            Self::L2 => backend.finish(x, true, &mut y)?,
        }
        Ok(y)
    }
}
