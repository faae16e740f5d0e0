//! Whether a model gives the vectors that it should: those of a reference, and the same alone as in company.

mod causes;
mod reference;

pub use reference::{Reference, Set};

use crate::{Config, Embedder, embedder::locate};
use embral_types::{Embeddings, Error, ErrorKind, Precision, Result};

/// What is still equal, by precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The largest difference of a component, for a vector of length 1; none where a precision rounds.
    pub max_abs: Option<f64>,
    /// The least cosine.
    pub cosine: f64,
}

impl Tolerance {
    /// In f32 two right engines differ by the order of their sums alone: up to 2e-6 in a component, and more where a mean is over
    /// thousands of rows. bf16 and int8 round; what a wrong pooling or a missing prompt does is beyond these.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self { max_abs: Some(1e-5), cosine: 1.0 - 1e-6 },
            Precision::Bf16 => Self { max_abs: None, cosine: 0.999 },
            Precision::Int8 => Self { max_abs: None, cosine: 0.97 },
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The model, as it was named.
    pub model: String,
    /// The numbers in which it was computed.
    pub precision: Precision,
    /// Where the reference is from, and what made it.
    pub reference: (String, String),
    /// Vectors compared.
    pub texts: usize,
    /// Components of a vector.
    pub dimensions: usize,
    /// The largest difference of a component.
    pub max_abs: f64,
    /// The least cosine.
    pub min_cosine: f64,
    /// What is still equal.
    pub tolerance: Tolerance,
    /// Every text whose vector is beyond it, the worst first.
    pub differences: Vec<Difference>,
    /// What explains the worst one, likeliest first.
    pub causes: Vec<String>,
    /// Texts whose vector alone, or in another order, is not the one in the batch, bit for bit.
    pub company: Vec<String>,
}

impl Report {
    /// Whether everything is as it should be.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.company.is_empty()
    }
}

/// A vector that is not the expected one.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The set of the reference, from 0.
    pub set: usize,
    /// The text in it, from 0.
    pub index: usize,
    /// The text.
    pub text: String,
    /// The cosine of the two.
    pub cosine: f64,
    /// The component that differs most.
    pub component: usize,
    /// What it should be.
    pub expected: f32,
    /// What it is.
    pub found: f32,
}

/// Compares the model of `config` with `reference`; where that is `None`, with the `embral-reference.json` in its folder or with what is
/// kept in the library.
///
/// # Errors
/// Where there is no reference for the model, its vectors have another width, or the model cannot be opened.
pub fn run(config: &Config, reference: Option<Reference>) -> Result<Report> {
    let name = config.named().unwrap_or(crate::default_model::NAME).to_owned();
    let reference = match reference {
        Some(reference) => reference,
        None => find(config, &name)?,
    };
    let embedder = Embedder::with_config(Config { vector_cache: None, warm_up: false, ..config.clone() })?;
    let tolerance = Tolerance::of(config.precision);
    let mut report = Report {
        model: name,
        precision: config.precision,
        reference: (reference.from.clone(), reference.made_with.clone()),
        texts: 0,
        dimensions: embedder.dimensions(),
        max_abs: 0.0,
        min_cosine: 1.0,
        tolerance,
        differences: Vec::new(),
        causes: Vec::new(),
        company: Vec::new(),
    };
    for (index, set) in reference.sets.iter().enumerate() {
        let width = set.embeddings[0].len();
        if width != report.dimensions {
            let message = format!(
                "the vectors of the reference have {width} components, and those of the model {}",
                report.dimensions
            );
            let hint = "the reference is of another model, or of one that was cut: set dims (--dims) to its width";
            return Err(Error::new(ErrorKind::Mismatch, message).hint(hint));
        }
        let rows = embedder.embed_batch_as(&set.texts, set.prompt())?;
        report.compare(index, set, &rows);
        report.look_at_company(&embedder, set, &rows)?;
    }
    report.differences.sort_by(|a, b| a.cosine.total_cmp(&b.cosine));
    if let Some(worst) = report.differences.first() {
        report.causes = causes::of(config, &embedder, &reference.sets[worst.set], worst, &tolerance)?;
    }
    Ok(report)
}

/// The reference of a model that none was named for.
fn find(config: &Config, name: &str) -> Result<Reference> {
    if let Some(model) = config.named().filter(|_| !config.is_remote()) {
        let folder = locate(model, config)?;
        let file = folder.join(reference::FILE);
        if file.is_file() {
            return Reference::read(&file);
        }
        // `.` has a name only once it is looked up.
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let of_folder = || whole.file_name().and_then(|name| name.to_str()).map(Reference::stored);
        if let Some(found) = Reference::stored(name)?.or(of_folder().transpose()?.flatten()) {
            return Ok(found);
        }
    } else if let Some(found) = Reference::stored(name)? {
        return Ok(found);
    }
    let message = format!("there are no stored vectors to compare {name} with");
    Err(Error::new(ErrorKind::NotFound, message).hint(format!(
        "make them once with sentence-transformers: python docs/make_reference.py {name} -o reference.json; then embral models verify \
         {name} --reference reference.json"
    )))
}

impl Report {
    fn compare(&mut self, set: usize, of: &Set, rows: &Embeddings) {
        for (index, (found, expected)) in rows.rows().zip(&of.embeddings).enumerate() {
            self.texts += 1;
            let cosine = cosine(found, expected);
            let off = |i: usize| (f64::from(found[i]) - f64::from(expected[i])).abs();
            let component = (0..found.len()).max_by(|&a, &b| off(a).total_cmp(&off(b))).unwrap_or(0);
            self.max_abs = self.max_abs.max(off(component));
            self.min_cosine = self.min_cosine.min(cosine);
            if !is_near(found, expected, &self.tolerance) {
                self.differences.push(Difference {
                    set,
                    index,
                    text: of.texts[index].clone(),
                    cosine,
                    component,
                    expected: expected[component],
                    found: found[component],
                });
            }
        }
    }

    /// Each text alone, and all of them in the other order.
    fn look_at_company(&mut self, embedder: &Embedder, set: &Set, rows: &Embeddings) -> Result<()> {
        let turned: Vec<&String> = set.texts.iter().rev().collect();
        let turned = embedder.embed_batch_as(&turned, set.prompt())?;
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        for (index, text) in set.texts.iter().enumerate() {
            let alone = embedder.embed_batch_as(&[text], set.prompt())?;
            let row = rows.row(index);
            if !same(alone.row(0), row) || !same(turned.row(set.texts.len() - 1 - index), row) {
                self.company.push(text.clone());
            }
        }
        Ok(())
    }
}

/// Whether two vectors are equal within a tolerance; a vector of zeros is equal to one of zeros.
fn is_near(found: &[f32], expected: &[f32], tolerance: &Tolerance) -> bool {
    let scale = length(expected).max(1.0);
    let off = |(&f, &e): (&f32, &f32)| (f64::from(f) - f64::from(e)).abs();
    let far = found.iter().zip(expected).map(off).fold(0.0, f64::max);
    let ratio = length(found) / length(expected).max(f64::MIN_POSITIVE);
    let as_long = length(expected) == 0.0 && length(found) == 0.0 || (0.9..1.1).contains(&ratio);
    as_long && cosine(found, expected) >= tolerance.cosine && tolerance.max_abs.is_none_or(|most| far <= most * scale)
}

fn length(v: &[f32]) -> f64 {
    v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let lengths = length(a) * length(b);
    if lengths == 0.0 {
        return if length(a) == length(b) { 1.0 } else { 0.0 };
    }
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / lengths
}
