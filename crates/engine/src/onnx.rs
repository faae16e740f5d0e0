//! A model that is an exported graph: its tokenizer, and the pooling and the modules of its folder around what the graph gives.

use crate::{
    Config, GraphInfo, ModelInfo,
    encoder::{Body, Native, pool_of},
    open::{self, Opened},
};
use embral_backend::Backend;
use embral_cpu::Cpu;
use embral_models::{GraphSpec, ModelFolder, catalogue};
use embral_onnx::{Graph, Kind, Wish};
use embral_types::{Batch, Error, ErrorKind, Pooling, Result};

/// A graph as the encoder runs it.
pub(crate) struct GraphBody {
    graph: Graph,
    /// How its rows become one; [`None`] where it gives the vector itself.
    pooling: Option<Pooling>,
}

/// Opens the graph of a folder. `info` is what the folder says.
pub(crate) fn open(
    folder: &ModelFolder,
    spec: &GraphSpec,
    mut info: ModelInfo,
    backend: Cpu,
    config: &Config,
) -> Result<Opened<Native<Cpu>>> {
    if let Some(found) = open::other_numbers(config) {
        let message = format!("a graph is computed in the numbers it was exported in; found precision {found}");
        return Err(Error::new(ErrorKind::InvalidInput, message)
            .in_file(&spec.file)
            .hint("leave the precision out, name another graph (--onnx=FILE), or take the model in safetensors"));
    }
    let entry = catalogue::find(&info.name);
    let stated = config.pooling.or(folder.pooling).or(entry.and_then(|e| e.pooling));
    let wish = if stated.is_some() { Wish::Rows } else { Wish::Vectors };
    let tokenizer = open::tokenizer(folder)?;
    let threads = embral_kernels::Pool::shared(config.threads).threads();
    let graph = Graph::open(&spec.file, wish, threads)?;
    let body = match graph.kind() {
        Kind::Rows => {
            let pooling = stated.ok_or_else(|| open::no_pooling(&folder.root))?;
            if let Some(width) = spec.width.filter(|&width| width != graph.width()) {
                let message =
                    format!("config.json says rows of {width}, and the graph gives rows of {}", graph.width());
                return Err(Error::new(ErrorKind::Mismatch, message).in_file(&spec.file));
            }
            folder.width_after(graph.width())?;
            GraphBody { graph, pooling: Some(pooling) }
        }
        Kind::Vectors => {
            if let Some(pooling) = config.pooling {
                let message =
                    format!("{pooling} pooling was asked for, and the graph pools by itself ({})", graph.output());
                return Err(Error::new(ErrorKind::InvalidInput, message)
                    .in_file(&spec.file)
                    .hint("leave the pooling out"));
            }
            GraphBody { graph, pooling: None }
        }
    };
    // A graph that gives the vector holds the modules behind the pooling too.
    let heads = match body.pooling {
        Some(_) => open::load_heads(&backend, &folder.heads)?,
        None => Vec::new(),
    };
    let max_tokens = match (config.max_tokens, spec.positions) {
        (Some(asked), Some(limit)) => Some(open::within(asked, limit).map_err(|e| e.in_file(&folder.root))?),
        (asked, _) => asked.or(folder.max_tokens),
    };
    info.architecture = spec.architecture.clone().unwrap_or_else(|| "onnx".to_owned());
    info.hidden = body.graph.width();
    info.pooling = body.pooling.or(stated).unwrap_or(Pooling::Mean);
    info.max_tokens = max_tokens.unwrap_or(usize::MAX);
    info.device = body.graph.describe();
    info.remarks = body.graph.remarks().to_vec();
    describe(&body, spec, &mut info);
    let before_cut = open::norm_before_cut(&backend, &heads, (info.hidden, &folder.root, &info.name))?;
    let tokenizer = tokenizer.with(open::token_options(folder, max_tokens, config))?;
    let native = Native { backend, body: Body::Graph(Box::new(body)), heads, before_cut, form: open::UNSETTLED };
    open::finish(native, tokenizer, info, folder.include_prompt, config)
}

/// What the graph says of itself.
fn describe(body: &GraphBody, spec: &GraphSpec, info: &mut ModelInfo) {
    let facts = body.graph.facts();
    info.fingerprint = format!("{:032x}", embral_formats::packed::hash(&facts.sample));
    (info.parameters, info.weight_bytes) = (facts.parameters, facts.bytes);
    info.graph = Some(GraphInfo {
        file: spec.file.clone(),
        inputs: body.graph.inputs().map(str::to_owned).collect(),
        output: body.graph.output().to_owned(),
        pooled: body.pooling.is_none(),
        operators: facts.operators,
        opset: facts.opset,
        producer: facts.producer.clone(),
        integers: facts.integers,
    });
}

impl GraphBody {
    /// Components of what it gives.
    pub(crate) fn width(&self) -> usize {
        self.graph.width()
    }

    /// How its rows become one.
    ///
    /// # Errors
    /// Where it gives no rows.
    pub(crate) fn pooling(&self) -> Result<&Pooling> {
        self.pooling.as_ref().ok_or_else(|| {
            let message = format!(
                "late chunking needs the rows of tokens, and the graph pools by itself ({})",
                self.graph.output()
            );
            Error::new(ErrorKind::Unsupported, message)
                .hint("take the model in safetensors, or export its last_hidden_state")
        })
    }

    /// What the graph gives: a row for each token, or for each text.
    pub(crate) fn rows<B: Backend>(&self, backend: &B, batch: &Batch, skip: usize) -> Result<B::Buffer> {
        if self.pooling.is_none() && skip > 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the model leaves its prompt out of the pooling, and the graph pools all tokens by itself",
            )
            .hint("take the model in safetensors, or export its last_hidden_state"));
        }
        let rows = if self.pooling.is_some() { batch.tokens() } else { batch.len() };
        let mut values = vec![0.0; rows * self.width()];
        self.graph.run(batch.ids(), batch.offsets(), &mut values)?;
        let mut buffer = backend.buffer(rows, self.width())?;
        backend.write(&values, &mut buffer)?;
        Ok(buffer)
    }

    /// One row a text of what [`GraphBody::rows`] gave; `skip` and `l2` are those of the pooling.
    pub(crate) fn pool<B: Backend>(
        &self,
        backend: &B,
        plan: &B::Plan,
        rows: B::Buffer,
        texts: usize,
        (skip, l2): (usize, bool),
    ) -> Result<B::Buffer> {
        let mut pooled = match self.pooling {
            None if !l2 => return Ok(rows),
            _ => backend.buffer(texts, self.width())?,
        };
        match self.pooling {
            Some(pooling) => backend.pool(plan, &rows, pool_of(pooling, skip, l2), &mut pooled)?,
            None => backend.finish(&rows, l2, &mut pooled)?,
        }
        Ok(pooled)
    }

    /// The row of every token into `out`, `[batch.tokens(), width]`.
    pub(crate) fn token_rows(&self, batch: &Batch, out: &mut [f32]) -> Result<()> {
        self.graph.run(batch.ids(), batch.offsets(), out)
    }
}
