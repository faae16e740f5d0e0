//! Heads of other tasks than one vector a text, out of a model's own weight file.

use crate::open::{expect, finite};
use embral_backend::Dense;
use embral_cpu::Cpu;
use embral_formats::Weights;
use embral_forward::{Head, Terms};
use embral_models::{ClassifierSpec, HeadLayer, MlmHead, ModelFolder, Network, Role};
use embral_types::{Activation, Error, ErrorKind, Precision, Result, Tensor};

/// The layers of a classifier over the pooled row; the last gives as many logits as there are labels.
pub(crate) fn classifier(backend: &Cpu, weights: &dyn Weights, spec: &ClassifierSpec) -> Result<Vec<Head<Cpu>>> {
    let layer = |spec: &HeadLayer| match *spec {
        HeadLayer::Dense { name, activation } => Head::dense(backend, dense(weights, name)?, activation),
        HeadLayer::Norm { name, eps } => norm(backend, weights, name, eps),
    };
    let heads = spec.layers.iter().map(layer).collect::<Result<Vec<_>>>()?;
    let logits = heads.last().map_or(0, |head| head.width(0));
    if logits != spec.labels.len() {
        let message = format!("config.json names {} labels, and the head gives {logits} logits", spec.labels.len());
        return Err(Error::new(ErrorKind::Mismatch, message).in_file(weights.file()));
    }
    Ok(heads)
}

/// The logits of these tokens: rows of the output layer, which is the word table where the file has no other.
pub(crate) fn answers(backend: &Cpu, folder: &ModelFolder, weights: &dyn Weights, ids: &[u32]) -> Result<Head<Cpu>> {
    let table = match weights.contains("lm_head.weight") {
        true => finite(weights, "lm_head.weight")?,
        false => word_table(folder, weights)?,
    };
    let &[rows, width] = table.shape() else {
        let message = format!("expected a matrix, found shape {:?}", table.shape());
        return Err(Error::new(ErrorKind::Mismatch, message).in_file(weights.file()));
    };
    let row_bytes = width * table.dtype().size();
    let mut bytes = Vec::with_capacity(ids.len() * row_bytes);
    for &id in ids {
        if id as usize >= rows {
            let message = format!("the answer is token {id}, and the output layer has {rows} rows");
            return Err(Error::new(ErrorKind::Mismatch, message).in_file(weights.file()));
        }
        bytes.extend_from_slice(&table.bytes()[id as usize * row_bytes..][..row_bytes]);
    }
    let weight = Tensor::new(table.dtype(), vec![ids.len(), width], bytes);
    Head::dense(backend, Dense { weight, bias: None }, Activation::Identity)
}

/// The layer that gives each token one weight, `max(x · w + b, 0)`.
pub(crate) fn token_weight(backend: &Cpu, weights: &dyn Weights) -> Result<Head<Cpu>> {
    let weight = finite(weights, "weight")?;
    let bias = expect(weights, "bias", &[1])?;
    if weight.shape().first() != Some(&1) {
        let message = format!("expected shape [1, hidden], found {:?}", weight.shape());
        return Err(Error::new(ErrorKind::Mismatch, message).in_file(weights.file()).in_tensor("weight"));
    }
    Head::dense(backend, Dense { weight, bias: Some(bias) }, Activation::Relu)
}

/// The head of a masked language model.
pub(crate) fn terms(
    backend: &Cpu,
    folder: &ModelFolder,
    weights: &dyn Weights,
    spec: &MlmHead,
    precision: Precision,
) -> Result<Terms<Cpu>> {
    let transform = Head::dense(backend, dense(weights, spec.dense)?, spec.activation)?;
    let norm = norm(backend, weights, spec.norm, spec.eps)?;
    let name = format!("{}.weight", spec.decoder);
    let weight = if weights.contains(&name) { finite(weights, &name)? } else { word_table(folder, weights)? };
    let bias = spec.biases.iter().find(|name| weights.contains(name)).map(|name| finite(weights, name)).transpose()?;
    Terms::new(backend, transform, norm, Dense { weight, bias }, precision)
}

fn word_table<'w>(folder: &ModelFolder, weights: &'w dyn Weights) -> Result<Tensor<'w>> {
    match &folder.network {
        Network::Transformer { names, .. } => names.weight_in(weights, Role::Word, 0),
        Network::Static(_) | Network::Graph(_) => {
            Err(Error::new(ErrorKind::Mismatch, "the model has no word embeddings under a head"))
        }
    }
}

fn dense<'w>(weights: &'w dyn Weights, name: &str) -> Result<Dense<'w>> {
    let weight = finite(weights, &format!("{name}.weight"))?;
    let outputs = weight.shape().first().copied().unwrap_or(0);
    let bias = format!("{name}.bias");
    let bias = weights.contains(&bias).then(|| expect(weights, &bias, &[outputs])).transpose()?;
    Ok(Dense { weight, bias })
}

fn norm(backend: &Cpu, weights: &dyn Weights, name: &str, eps: f32) -> Result<Head<Cpu>> {
    let gamma = finite(weights, &format!("{name}.weight"))?;
    let bias = format!("{name}.bias");
    let beta = weights.contains(&bias).then(|| finite(weights, &bias)).transpose()?;
    Head::layer_norm(backend, &gamma, beta.as_ref(), eps)
}
