//! What a caller may choose before a model is opened.

use crate::{PartPrecision, cache::VectorCache, default_model, precision};
use embral_models::{OnnxChoice, Scores, Task, catalogue};
use embral_types::{Error, ErrorKind, Pooling, Precision, Result};

pub use embral_tokenize::Truncation;

/// Tokens in one packed batch. At MiniLM's width the activations of 2,048 tokens are 28 MB, about an L3 cache.
pub(crate) const BATCH_TOKENS: usize = 2048;

/// How a model is opened and run. [`Config::default`] is the default model as its makers run it.
#[derive(Clone, Debug)]
pub struct Config {
    /// A folder, a name of the catalogue, an imported model, an `org/name` of the hub or the address of a server; `None` is the default
    /// model.
    pub model: Option<String>,
    /// The revision (branch, tag or commit) of a hub model; `None` is `main`.
    pub revision: Option<String>,
    /// Never touch the network, as with `HF_HUB_OFFLINE=1`.
    pub offline: bool,
    /// Threads that work, the caller's among them; `None` is one for each core the process may use.
    pub threads: Option<usize>,
    /// Whether a folder's exported ONNX graph is run in the place of its weights.
    pub onnx: OnnxChoice,
    /// In which numbers the model is computed.
    pub precision: Precision,
    /// Parts of layers that are computed in other numbers than `precision`, each named once: those that lose most in it, as
    /// [`crate::inspect`] finds them, or those that lose least. A part in f32 or bf16 costs the time that it takes in these numbers. The
    /// weights of such a model are packed at each start, whatever `packed_cache` says.
    ///
    /// ```no_run
    /// use embral::{Config, Embedder, Precision};
    /// let model = Config::model("sentence-transformers/all-MiniLM-L6-v2");
    /// let parts = vec!["5.down=bf16".parse()?];
    /// let embedder = Embedder::with_config(Config { precision: Precision::Int8, parts, ..model })?;
    /// # Ok::<(), embral::Error>(())
    /// ```
    pub parts: Vec<PartPrecision>,
    /// Keep the first components only, and normalise what is kept (Matryoshka); `None` keeps all.
    pub dims: Option<usize>,
    /// Overrides the model's pooling.
    pub pooling: Option<Pooling>,
    /// Whether vectors are divided by their Euclidean length; `None` does as the model says, and normalises where
    /// `dims` cuts.
    pub normalize: Option<bool>,
    /// The longest text in tokens, special tokens included; `None` is the model's own limit.
    pub max_tokens: Option<usize>,
    /// What happens to a longer text.
    pub truncation: Truncation,
    /// Tokens computed together. More costs memory and gains nothing past a few thousand; the vectors do not change.
    pub batch_tokens: usize,
    /// How a reranker or a classifier makes scores of logits; `None` does as the model says.
    pub scores: Option<Scores>,
    /// Run once while opening, so that the first call is as fast as the tenth.
    pub warm_up: bool,
    /// Keep the packed weights of a transformer in bf16 or int8 in the user's cache folder, so that the next start maps them instead of
    /// packing them; see [`crate::store::PackedFolder`]. The vectors are the same, bit for bit. `EMBRAL_PACKED_CACHE=0` turns it off
    /// for a process.
    pub packed_cache: bool,
    /// Keep vectors, and take those of texts that were embedded before from where they are kept: [`crate::cache`]. They are the same, bit
    /// for bit. `None` keeps none.
    pub vector_cache: Option<VectorCache>,
    /// How a server is asked, where `model` is the address of one.
    #[cfg(feature = "remote")]
    pub remote: crate::remote::Options,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: None,
            revision: None,
            offline: false,
            threads: None,
            onnx: OnnxChoice::IfAlone,
            precision: Precision::F32,
            parts: Vec::new(),
            dims: None,
            pooling: None,
            normalize: None,
            max_tokens: None,
            truncation: Truncation::Right,
            batch_tokens: BATCH_TOKENS,
            scores: None,
            warm_up: true,
            packed_cache: true,
            vector_cache: None,
            #[cfg(feature = "remote")]
            remote: crate::remote::Options::default(),
        }
    }
}

impl Config {
    /// The configuration for a model by name, folder or `org/name`.
    pub fn model(name: impl Into<String>) -> Self {
        Self { model: Some(name.into()), ..Self::default() }
    }

    /// Whether the model is named by the address of a server: `http://…`, `https://…`, or one of them behind a kind and a `+`.
    pub fn is_remote(&self) -> bool {
        self.model.as_deref().is_some_and(is_address)
    }

    /// Whether a folder's graph is to be run, whatever else the folder has.
    pub(crate) fn onnx_is_chosen(&self) -> bool {
        self.onnx != OnnxChoice::IfAlone
    }

    /// The precision of each part.
    pub(crate) fn precisions(&self) -> embral_forward::Precisions {
        precision::of(self.precision, &self.parts)
    }

    /// Refuses numbers that nothing can be done with.
    pub(crate) fn check(&self) -> Result<()> {
        if self.batch_tokens == 0 || self.threads == Some(0) {
            return Err(Error::new(ErrorKind::InvalidInput, "batch_tokens and threads are at least 1, found 0"));
        }
        Ok(())
    }

    /// The name, folder or address of the model; `None` for the one inside the library, whether or not it is named.
    pub fn named(&self) -> Option<&str> {
        self.model.as_deref().filter(|name| !default_model::is_meant(name))
    }

    /// A choice by need, one of [`catalogue::presets`]: `"ultra-efficient"` (the default model: a static table, no download),
    /// `"efficient"`, `"high-quality"`, `"multilingual"`, `"code"` or `"long"`. Every function that takes the name of a model takes these
    /// names as well.
    ///
    /// # Errors
    /// Where the name is none of these.
    pub fn from_name(name: &str) -> Result<Self> {
        let Some(preset) = catalogue::preset(name) else {
            let known: Vec<&str> = catalogue::presets().iter().map(|p| &*p.name).collect();
            let message = format!("unknown preset {name:?}: expected one of {}", known.join(", "));
            return Err(Error::new(ErrorKind::InvalidInput, message));
        };
        Ok(catalogue::find(&preset.model).map_or_else(Self::default, |entry| Self::model(&*entry.repo)))
    }

    /// A model with vectors of `dims` components: the one named, or with `"auto"` the smallest download that gives them,
    /// whole or by a cut it was trained for.
    ///
    /// # Errors
    /// Where the named model, or every model of the catalogue, has no vectors of that width.
    pub fn for_dimension(dims: usize, model: &str) -> Result<Self> {
        let of = |width: usize, matryoshka: &[usize]| match width {
            w if w == dims => Some(None),
            w if dims < w && matryoshka.contains(&dims) => Some(Some(dims)),
            _ => None,
        };
        if model != "auto" {
            let Some(entry) = catalogue::find(model) else {
                return Err(Error::new(ErrorKind::NotFound, format!("no model {model:?} in the catalogue"))
                    .hint("give \"auto\", or set Config::model and Config::dims"));
            };
            let width = if entry.task == Task::Embedding { of(entry.dims, &entry.matryoshka) } else { None };
            let cut = width.ok_or_else(|| {
                if entry.task != Task::Embedding {
                    return entry.task.instead_of("an embedding model", std::path::Path::new(&entry.repo));
                }
                let message = format!(
                    "{} gives vectors of {} components, or {:?} by a cut it was trained for; found {dims}",
                    entry.repo, entry.dims, entry.matryoshka
                );
                Error::new(ErrorKind::InvalidInput, message)
            })?;
            return Ok(Self { dims: cut, ..Self::model(&*entry.repo) });
        }
        if let Some(cut) = of(default_model::DIMENSIONS, &default_model::MATRYOSHKA) {
            return Ok(Self { dims: cut, ..Self::default() });
        }
        let fitting = catalogue::entries()
            .iter()
            .filter(|e| e.supported() && e.task == Task::Embedding)
            .filter_map(|e| Some((e, of(e.dims, &e.matryoshka)?)))
            .min_by_key(|(e, cut)| (cut.is_some(), e.size_mb.unwrap_or(u32::MAX)));
        match fitting {
            Some((entry, cut)) => Ok(Self { dims: cut, ..Self::model(&*entry.repo) }),
            None => Err(Error::new(
                ErrorKind::NotFound,
                format!("no model of the catalogue gives vectors of {dims} components"),
            )
            .hint("`embral models list --catalogue` shows the widths there are")),
        }
    }
}

/// [`Config::is_remote`] of a name.
pub(crate) fn is_address(name: &str) -> bool {
    let url = match name.split_once('+') {
        Some((kind, url)) if kind.bytes().all(|b| b.is_ascii_alphanumeric()) => url,
        _ => name,
    };
    url.starts_with("http://") || url.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_names() {
        for name in ["http://h", "https://h/v1?model=a+b", "openai+http://h", "bert+https://h"] {
            assert!(Config::model(name).is_remote(), "{name}");
        }
        for name in ["org/name", "./http", "a+b", "http:/x", "C:\\models\\http", "a/b+http://h"] {
            assert!(!Config::model(name).is_remote(), "{name}");
        }
        assert!(!Config::default().is_remote());
    }

    #[test]
    fn presets_and_widths_name_models_that_give_them() {
        assert_eq!(Config::from_name("ultra-efficient").unwrap().model, None);
        assert_eq!(Config::model("ultra-efficient").named(), None);
        assert_eq!(Config::model("high-quality").named(), Some("high-quality"));
        for preset in catalogue::presets() {
            assert_eq!(Config::from_name(&preset.name).unwrap().model.is_none(), preset.name == "ultra-efficient");
        }
        let efficient = Config::from_name("efficient").unwrap();
        assert_eq!(efficient.model.as_deref(), Some("sentence-transformers/all-MiniLM-L6-v2"));
        assert!(Config::from_name("best").unwrap_err().to_string().contains("high-quality"));
        assert_eq!(Config::for_dimension(256, "auto").unwrap().model, None);
        assert_eq!(Config::for_dimension(64, "auto").unwrap().dims, Some(64));
        for dims in [384, 768, 1024] {
            let config = Config::for_dimension(dims, "auto").unwrap();
            let entry = catalogue::find(config.model.as_deref().unwrap()).unwrap();
            assert_eq!((entry.dims, config.dims, entry.supported()), (dims, None, true));
        }
        assert!(Config::for_dimension(7, "auto").is_err());
        assert!(Config::for_dimension(100, "all-MiniLM-L6-v2").unwrap_err().to_string().contains("384"));
        assert!(Config::for_dimension(1, "ms-marco-MiniLM-L6-v2").unwrap_err().to_string().contains("embral rerank"));
        assert!(Config::for_dimension(96, "auto").is_err(), "a width of token vectors is none of texts");
    }
}
