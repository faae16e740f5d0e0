//! Where a precision loses: each part of each layer by itself, and all of them together, against f32 on the same texts.
//!
//! A model is opened twice, in f32 and in the precision, and parts are exchanged between the two. So every figure is of the forward
//! pass that an [`Embedder`](crate::Embedder) runs.

use crate::{
    Config, Prompt,
    embedder::locate,
    encoder::{Body, Native},
    open::{self, Opened},
};
use embral_backend::Backend;
use embral_cpu::Cpu;
use embral_forward::{Precisions, Site, Transformer};
use embral_models::{ModelFolder, Network};
use embral_types::{Batch, Error, ErrorKind, Precision, Result};
use std::ops::Range;

/// Sentences to look at where there are none at hand: a word, queries, sentences and two passages.
pub const TEXTS: [&str; 12] = [
    "photosynthesis",
    "how do I reset my password",
    "cheap flights to Lisbon in March",
    "What is the capital of Australia?",
    "A cat sat on the mat and watched the rain.",
    "The committee postponed its vote on the new budget until the auditors have delivered their report.",
    "def add(a, b): return a + b  # sums two numbers",
    "Error 0x80070057: the parameter is incorrect; try again with 64 GB or more.",
    "She sold her bicycle, bought a second-hand piano, and never once regretted it.",
    "In 1869 Dmitri Mendeleev arranged the 63 elements then known by atomic weight and left gaps for those still to be found.",
    "Interest rates rose by a quarter of a point on Thursday, the third increase this year, as the central bank tried to slow \
     inflation that has stayed above its target since spring. Analysts had expected the move. Bonds hardly changed, while shares of \
     builders and lenders fell by between two and four per cent before they recovered some of the loss in the afternoon.",
    "Coral reefs cover less than one per cent of the ocean floor, yet about a quarter of all marine species depend on them for \
     food or shelter at some point of their lives. Warm water makes the animals expel the algae that feed and colour them, which is \
     known as bleaching. A reef can recover from it in ten to fifteen years where the heat does not return, where fish keep the \
     seaweed short, and where the water stays clear of silt and sewage; few reefs are granted all three.",
];

/// How many parts are tried in a better precision.
const KEPT: usize = 3;

/// What a precision costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The model, as it was named.
    pub model: String,
    /// The precision.
    pub precision: Precision,
    /// Texts looked at.
    pub texts: usize,
    /// Their tokens, special tokens included.
    pub tokens: usize,
    /// Each layer.
    pub layers: Vec<LayerLoss>,
    /// The vectors with everything in the precision.
    pub cosine: Cosine,
    /// The parts that cost the vectors most by themselves, worst first, and what keeping them out of the precision gives.
    pub worst: Vec<Kept>,
}

/// What is lost in one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerLoss {
    /// Each part, in the order of the pass.
    pub parts: Vec<PartLoss>,
    /// `|x - y| / |y|` of the rows `x` behind this layer with all parts up to here in the precision, `y` being f32.
    pub total: f64,
}

/// What one part loses by itself, all others being in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct PartLoss {
    /// `qkv`, `attention`, `out`, `up` or `down`.
    pub part: &'static str,
    /// `|x - y| / |y|` of the rows behind its layer.
    pub error: f64,
    /// The vectors.
    pub cosine: Cosine,
    /// The largest weight of an output over the mean size of the weights of that output, in the output where this is most; `None` for
    /// attention, which has no weights. One step of 8 bits serves all weights of an output, and outliers make it long.
    pub outlier: Option<f64>,
}

/// Cosines of vectors with those of f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cosine {
    /// The least one.
    pub min: f64,
    /// The mean.
    pub mean: f64,
}

/// One part kept in a better precision, all others being in the one inspected.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The layer, from 0.
    pub layer: usize,
    /// The part.
    pub part: &'static str,
    /// What it is kept in: bf16, or f32 where bf16 is what loses.
    pub precision: Precision,
    /// The vectors then.
    pub cosine: Cosine,
}

/// Runs `texts` through the model of `config` in f32 and in `config.precision`, whole and part by part: about six passes a layer,
/// and memory for two models.
///
/// # Errors
/// Where there is no text, the precision is f32, or the model is static, a table without a precision; and those of opening
/// a model and of tokenising.
pub fn run(config: &Config, texts: &[impl AsRef<str>]) -> Result<Report> {
    let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidInput, message));
    if texts.is_empty() {
        return invalid("there is no text to inspect a precision on");
    }
    if config.precision == Precision::F32 {
        return invalid("f32 is what other precisions are compared with: expected bf16 or int8");
    }
    let Some(name) = config.named() else {
        return invalid("the default model is a static table, which has no precision: name a transformer");
    };
    let path = locate(name, config)?;
    let open = |precisions: &Precisions| open::native(&path, name, config, precisions, None);
    let mut plain = open(&Precision::F32.into())?;
    let outliers = outliers(&ModelFolder::read_with(&path, &config.onnx)?)?;
    if outliers.is_empty() {
        return invalid("the model is a static table, which has no precision: name a transformer");
    }
    let mut coarse = open(&config.precisions())?;
    let (batches, skip) = batches(&plain, texts, config.batch_tokens)?;

    let layers = outliers.len();
    let mut whole = Difference::of(layers);
    let mut alone: Vec<(usize, Site, Difference)> =
        (0..layers).flat_map(|layer| Site::ALL.map(|site| (layer, site, Difference::of(layers)))).collect();
    for batch in &batches {
        let truth = pass(&plain.encoder, batch, skip, 0..layers)?;
        whole.add(&truth, &pass(&coarse.encoder, batch, skip, 0..layers)?);
        for (layer, site, difference) in &mut alone {
            exchange(&mut plain, &mut coarse, *layer, *site);
            difference.add(&truth, &pass(&plain.encoder, batch, skip, *layer..*layer + 1)?);
            exchange(&mut plain, &mut coarse, *layer, *site);
        }
    }
    drop(coarse);

    let mut order: Vec<&(usize, Site, Difference)> = alone.iter().collect();
    order.sort_by(|a, b| a.2.cosine().mean.total_cmp(&b.2.cosine().mean));
    let keep = |&&(layer, site, _): &&(usize, Site, Difference)| {
        let precision = match (config.precision, site) {
            (Precision::Int8, Site::Qkv | Site::Out | Site::Up | Site::Down) => Precision::Bf16,
            _ => Precision::F32,
        };
        let mut precisions = config.precisions();
        precisions.exceptions.insert(0, (layer, site, precision));
        let kept = open(&precisions)?;
        let mut difference = Difference::of(layers);
        for batch in &batches {
            let truth = pass(&plain.encoder, batch, skip, 0..0)?;
            difference.add(&truth, &pass(&kept.encoder, batch, skip, 0..0)?);
        }
        Ok(Kept { layer, part: site.name(), precision, cosine: difference.cosine() })
    };
    let worst = order.iter().take(KEPT).map(keep).collect::<Result<Vec<_>>>()?;

    let part = |(layer, site, difference): &(usize, Site, Difference)| PartLoss {
        part: site.name(),
        error: difference.error(*layer),
        cosine: difference.cosine(),
        outlier: Site::ALL.iter().position(|s| s == site).and_then(|i| outliers[*layer][i]),
    };
    Ok(Report {
        model: name.to_owned(),
        precision: config.precision,
        texts: texts.len(),
        tokens: batches.iter().map(Batch::tokens).sum(),
        layers: alone
            .chunks(Site::ALL.len())
            .enumerate()
            .map(|(layer, parts)| LayerLoss { parts: parts.iter().map(part).collect(), total: whole.error(layer) })
            .collect(),
        cosine: whole.cosine(),
        worst,
    })
}

/// The texts in batches, with the model's default prompt, and the tokens of it that are not pooled.
fn batches<E>(opened: &Opened<E>, texts: &[impl AsRef<str>], batch_tokens: usize) -> Result<(Vec<Batch>, usize)> {
    let info = &opened.info;
    let prompt = info.prompt_text(Prompt::Default)?;
    let mut batches = vec![Batch::default()];
    let mut skip = 0;
    for text in texts {
        let encoded = opened.tokenizer.encode(text.as_ref(), prompt)?;
        let last = batches.last_mut().expect("there is one from the start");
        if last.is_empty() || last.tokens() + encoded.ids.len() <= batch_tokens {
            last.push(&encoded.ids);
        } else {
            let mut next = Batch::default();
            next.push(&encoded.ids);
            batches.push(next);
        }
        skip = if opened.include_prompt { 0 } else { encoded.prompt_tokens };
    }
    Ok((batches, skip))
}

/// What came out of one batch.
struct Seen {
    /// The first of `rows`.
    first: usize,
    /// The rows behind some layers.
    rows: Vec<Vec<f32>>,
    vectors: Vec<f32>,
    /// Components of a vector.
    dims: usize,
}

fn pass(model: &Native<Cpu>, batch: &Batch, skip: usize, layers: Range<usize>) -> Result<Seen> {
    let width = model.body.width();
    let mut seen = Seen {
        first: layers.start,
        rows: Vec::new(),
        vectors: vec![0.0; batch.len() * model.form.dims],
        dims: model.form.dims,
    };
    model.encode_observed(batch, skip, &mut seen.vectors, &mut |layer, rows| {
        if layers.contains(&layer) {
            let mut copy = vec![0.0; batch.tokens() * width];
            model.backend.read(rows, &mut copy)?;
            seen.rows.push(copy);
        }
        Ok(())
    })?;
    Ok(seen)
}

fn exchange(a: &mut Opened<Native<Cpu>>, b: &mut Opened<Native<Cpu>>, layer: usize, site: Site) {
    transformer(a).exchange(transformer(b), layer, site);
}

fn transformer(opened: &mut Opened<Native<Cpu>>) -> &mut Transformer<Cpu> {
    match &mut opened.encoder.body {
        Body::Transformer { model, .. } => model,
        _ => unreachable!("static models and graphs are refused before"),
    }
}

/// Sums over batches, term by term, so that how texts are put together changes no bit.
struct Difference {
    /// `Σ (x - y)²` and `Σ y²` behind each layer.
    layers: Vec<(f64, f64)>,
    /// The least cosine, the sum of all, and how many they are.
    cosines: (f64, f64, usize),
}

impl Difference {
    fn of(layers: usize) -> Self {
        Self { layers: vec![(0.0, 0.0); layers], cosines: (f64::INFINITY, 0.0, 0) }
    }

    fn add(&mut self, truth: &Seen, found: &Seen) {
        for (layer, rows) in (found.first..).zip(&found.rows) {
            let (error, size) = &mut self.layers[layer];
            for (&x, &y) in rows.iter().zip(&truth.rows[layer - truth.first]) {
                let (x, y) = (f64::from(x), f64::from(y));
                *error += (x - y) * (x - y);
                *size += y * y;
            }
        }
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let pairs = truth.vectors.chunks_exact(truth.dims).zip(found.vectors.chunks_exact(found.dims));
        let (least, sum, count) = &mut self.cosines;
        for (y, x) in pairs {
            let cosine = dot(x, y) / (dot(x, x) * dot(y, y)).sqrt().max(f64::MIN_POSITIVE);
            *least = least.min(cosine);
            *sum += cosine;
            *count += 1;
        }
    }

    fn error(&self, layer: usize) -> f64 {
        let (error, size) = self.layers[layer];
        (error / size.max(f64::MIN_POSITIVE)).sqrt()
    }

    fn cosine(&self) -> Cosine {
        let (min, sum, count) = self.cosines;
        Cosine { min, mean: sum / count as f64 }
    }
}

/// [`PartLoss::outlier`] of each site of each layer; none for a static model.
fn outliers(folder: &ModelFolder) -> Result<Vec<[Option<f64>; Site::ALL.len()]>> {
    let Network::Transformer { blueprint, names, .. } = &folder.network else { return Ok(Vec::new()) };
    let weights = folder.open_weights()?;
    let of_role = |layer, role| -> Result<f64> {
        let tensor = names.weight_in(&*weights, role, layer)?;
        let inputs = tensor.shape().last().copied().unwrap_or(1).max(1);
        let of_output = |row: &[f32]| {
            let largest = row.iter().fold(0.0, |most: f32, w| most.max(w.abs()));
            let mean = row.iter().map(|w| f64::from(w.abs())).sum::<f64>() / inputs as f64;
            f64::from(largest) / mean.max(f64::MIN_POSITIVE)
        };
        Ok(tensor.to_f32().chunks_exact(inputs).map(of_output).fold(0.0, f64::max))
    };
    (0..blueprint.layers)
        .map(|layer| {
            let mut of_sites = [None; Site::ALL.len()];
            for (of_site, site) in of_sites.iter_mut().zip(Site::ALL) {
                for &role in site.roles(blueprint, layer) {
                    *of_site = Some(of_site.unwrap_or(0.0_f64).max(of_role(layer, role)?));
                }
            }
            Ok(of_sites)
        })
        .collect()
}
