//! `rten`: a runtime in Rust alone, on the CPU.

use super::{Runtime, Wanted, failed};
use crate::signature::Number;
use embral_types::{Error, ErrorKind, Result, guarded};
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value};
use rten_tensor::prelude::*;
use std::sync::Arc;

pub(crate) struct Pure {
    model: Model,
    inputs: Vec<(NodeId, Number)>,
    output: NodeId,
    pool: Arc<ThreadPool>,
    threads: usize,
}

impl Pure {
    /// Loads a graph. Weights of float graphs are packed in advance; those of integers are not, as they would be multiplied wrongly
    /// where they are signed and have a zero point.
    pub(crate) fn open(wanted: &Wanted<'_>) -> Result<Self> {
        let &Wanted { file, signature, integers, threads, .. } = wanted;
        let load = || ModelOptions::with_all_ops().prepack_weights(!integers).load_file(file);
        let model = guarded(load)
            .ok_or_else(|| Error::new(ErrorKind::Malformed, "expected an ONNX graph, found bytes that are none"))?
            .map_err(|e| {
                Error::new(ErrorKind::Unsupported, format!("the graph cannot be loaded: {e}"))
                    .hint("take the model in safetensors, or export it again without fused operators")
            })?;
        let node = |name: &str| {
            model
                .node_id(name)
                .map_err(|e| Error::new(ErrorKind::Malformed, format!("there is no {name:?} in it: {e}")))
        };
        let inputs = signature.inputs.iter().map(|input| Ok((node(&input.name)?, input.number)));
        let (inputs, output) = (inputs.collect::<Result<_>>()?, node(&signature.output)?);
        let threads = threads.max(1);
        Ok(Self { model, inputs, output, pool: Arc::new(ThreadPool::with_num_threads(threads)), threads })
    }
}

impl Runtime for Pure {
    fn describe(&self) -> String {
        "cpu (rten 0.27)".to_owned()
    }

    fn compute(&self, inputs: &[Vec<i64>], length: usize) -> Result<(Vec<usize>, Vec<f32>)> {
        let value = |values: &[i64], number| match number {
            // The runtime has one kind of integer, which it takes for both.
            Number::I32 | Number::I64 => {
                Value::from_shape([1, length], values.iter().map(|&v| v as i32).collect::<Vec<_>>())
                    .map_err(|e| failed(length, e))
            }
            Number::F32 => Value::from_shape([1, length], values.iter().map(|&v| v as f32).collect::<Vec<_>>())
                .map_err(|e| failed(length, e)),
        };
        let mut given = Vec::with_capacity(inputs.len());
        for (&(node, number), values) in self.inputs.iter().zip(inputs) {
            given.push((node, value(values, number)?.into()));
        }
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.pool)));
        let outputs = guarded(|| self.model.run(given, &[self.output], Some(options)))
            .ok_or_else(|| failed(length, "the runtime panicked"))?
            .map_err(|e| failed(length, e))?;
        let output = outputs.into_iter().next().and_then(|value| value.into_tensor::<f32>());
        let tensor = output.ok_or_else(|| failed(length, "its output is not of floats"))?;
        Ok((tensor.shape().to_vec(), tensor.to_vec()))
    }

    fn at_once(&self) -> usize {
        self.threads
    }
}
