//! Weights by role, out of a file and into a backend.

use embral_backend::{Backend, Dense};
use embral_formats::Weights;
use embral_models::{NormSpec, Role, WeightNames};
use embral_types::{Result, Tensor};

/// Finds the tensors of a model in its weight files, and refuses values that are not finite.
pub(crate) struct Loader<'a> {
    pub(crate) names: &'a WeightNames,
    pub(crate) weights: &'a dyn Weights,
}

impl<'a> Loader<'a> {
    pub(crate) fn weight(&self, role: Role, layer: usize) -> Result<Tensor<'a>> {
        self.finite(&self.names.weight(role, layer), self.names.weight_in(self.weights, role, layer)?)
    }

    fn bias(&self, role: Role, layer: usize) -> Result<Tensor<'a>> {
        self.finite(&self.names.bias(role, layer), self.names.bias_in(self.weights, role, layer)?)
    }

    fn finite(&self, name: &str, tensor: Tensor<'a>) -> Result<Tensor<'a>> {
        embral_formats::check_finite(name, &tensor).map_err(|e| e.in_file(self.weights.file()))?;
        Ok(tensor)
    }

    pub(crate) fn dense(&self, role: Role, layer: usize, bias: bool) -> Result<Dense<'a>> {
        let bias = bias.then(|| self.bias(role, layer)).transpose()?;
        Ok(Dense { weight: self.weight(role, layer)?, bias })
    }

    pub(crate) fn norm<B: Backend>(&self, backend: &B, spec: &NormSpec, role: Role, layer: usize) -> Result<B::Norm> {
        let beta = spec.bias.then(|| self.bias(role, layer)).transpose()?;
        let mut gamma = self.weight(role, layer)?;
        if spec.less_one {
            let values: Vec<f32> = gamma.to_f32().iter().map(|g| 1.0 + g).collect();
            gamma = Tensor::from_f32(gamma.shape().to_vec(), &values);
        }
        backend.load_norm(spec.kind, &gamma, beta.as_ref(), spec.eps)
    }
}
