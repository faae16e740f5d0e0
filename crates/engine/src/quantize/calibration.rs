//! Ranges kept on disk, and what they are the ranges of.

use super::Ranges;
use crate::{Embedder, Prompt, store::Environment};
use embral_types::{Embeddings, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The range of each component over a sample of texts, with the model and the settings that the vectors came from.
///
/// Kept in a small JSON file: in `EMBRAL_HOME/ranges`, where it is found by model, width, pooling, prompt and normalisation, or
/// wherever a caller puts it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How the model was called.
    pub model: String,
    /// [`crate::ModelInfo::fingerprint`] of the model.
    pub fingerprint: String,
    /// Components of a vector.
    pub dims: usize,
    /// How token rows became one.
    pub pooling: String,
    /// The text before each text.
    pub prompt: String,
    /// Whether vectors had length 1.
    pub normalize: bool,
    /// Texts taken in.
    pub texts: usize,
    /// The smallest value of each component; empty before the first text.
    min: Vec<f32>,
    /// The largest value of each component; empty before the first text.
    max: Vec<f32>,
}

impl Calibration {
    /// No texts yet, for the vectors that `embedder` makes with `prompt`.
    ///
    /// # Errors
    /// Where the model has no prompt of that name.
    pub fn begin(embedder: &Embedder, prompt: Prompt<'_>) -> Result<Self> {
        let info = embedder.info();
        Ok(Self {
            model: info.name.clone(),
            fingerprint: info.fingerprint.clone(),
            dims: info.dimensions,
            pooling: info.pooling.to_string(),
            prompt: embedder.prompt_text(prompt)?.to_owned(),
            normalize: info.normalize,
            texts: 0,
            min: Vec::new(),
            max: Vec::new(),
        })
    }

    /// Takes vectors in.
    ///
    /// # Errors
    /// Where they have another width.
    pub fn add(&mut self, rows: &Embeddings) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if rows.dim() != self.dims {
            let message = format!("expected vectors of {} components, found {}", self.dims, rows.dim());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mut ranges = Ranges::of(rows)?;
        if self.texts > 0 {
            ranges.merge(&self.ranges()?);
        }
        (self.min, self.max) = (ranges.min().to_vec(), ranges.max().to_vec());
        self.texts += rows.len();
        Ok(())
    }

    /// The ranges so far.
    ///
    /// # Errors
    /// Where no text was taken in, or the file held ranges that are none.
    pub fn ranges(&self) -> Result<Ranges> {
        if self.min.len() != self.dims {
            let message = format!("expected ranges of {} components, found {}", self.dims, self.min.len());
            return Err(Error::new(ErrorKind::Malformed, message));
        }
        Ranges::new(self.min.clone(), self.max.clone())
    }

    /// Where the ranges of these vectors are kept: one file a model, width, pooling, prompt and normalisation.
    ///
    /// # Errors
    /// Where there is no home folder.
    pub fn path(&self) -> Result<PathBuf> {
        let key = format!("{:?}", (&self.fingerprint, self.dims, &self.pooling, &self.prompt, self.normalize));
        let name = format!("{:032x}.json", embral_formats::packed::hash(key.as_bytes()));
        Ok(Environment::of_process()?.ranges.join(name))
    }

    /// Writes the file, replacing one that is there in one step.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let failed = |e| Error::io("cannot write the ranges", file, e);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let bytes = serde_json::to_vec(self).expect("strings and numbers are JSON");
        let fresh = file.with_extension(format!("json.{}", std::process::id()));
        fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, file)).map_err(failed)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it is not there, or is no file of [`Calibration::write`].
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).map_err(|e| Error::io("cannot read the ranges", file, e))?;
        let calibration: Self = serde_json::from_slice(&bytes).map_err(|e| {
            let hint = "make it with `embral calibrate`";
            Error::new(ErrorKind::Malformed, format!("no file of ranges: {e}")).in_file(file).because(e).hint(hint)
        })?;
        calibration.ranges().map_err(|e| e.in_file(file))?;
        Ok(calibration)
    }

    /// Fails where these ranges are not those of the vectors that `embedder` makes with `prompt`; the error says what differs.
    ///
    /// # Errors
    /// As said, and where the model has no prompt of that name.
    pub fn ensure_of(&self, embedder: &Embedder, prompt: Prompt<'_>) -> Result<()> {
        let wanted = Self::begin(embedder, prompt)?;
        let differs = |what: &str, found: String, wanted: String| {
            let message = format!("the ranges are of vectors with {what} {found}, and these have {wanted}");
            Err(Error::new(ErrorKind::Mismatch, message).hint("make ranges of these with `embral calibrate`"))
        };
        if self.fingerprint != wanted.fingerprint {
            return differs("model", self.model.clone(), wanted.model);
        }
        if self.dims != wanted.dims {
            return differs("dims", self.dims.to_string(), wanted.dims.to_string());
        }
        if self.pooling != wanted.pooling {
            return differs("pooling", self.pooling.clone(), wanted.pooling);
        }
        if self.prompt != wanted.prompt {
            return differs("prompt", format!("{:?}", self.prompt), format!("{:?}", wanted.prompt));
        }
        if self.normalize != wanted.normalize {
            return differs("normalisation", self.normalize.to_string(), wanted.normalize.to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use embral_testkit::golden::Golden;

    fn embedder(dims: Option<usize>) -> Embedder {
        let folder = Golden::load("tiny_bert").folder;
        Embedder::with_config(Config { dims, ..Config::model(folder.to_str().unwrap()) }).unwrap()
    }

    #[test]
    fn ranges_are_kept_and_belong_to_the_vectors_they_were_made_of() {
        let whole = embedder(None);
        let texts = ["a cat", "a dog", "rates"];
        let mut calibration = Calibration::begin(&whole, Prompt::None).unwrap();
        assert!(calibration.ranges().is_err());
        for text in texts {
            calibration.add(&whole.embed_batch_as(&[text], Prompt::None).unwrap()).unwrap();
        }
        let together = whole.embed_batch_as(&texts, Prompt::None).unwrap();
        assert_eq!((calibration.ranges().unwrap(), calibration.texts), (Ranges::of(&together).unwrap(), 3));

        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("ranges").join("a.json");
        calibration.write(&file).unwrap();
        assert_eq!(Calibration::read(&file).unwrap(), calibration);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        calibration.ensure_of(&whole, Prompt::None).unwrap();

        let cut = embedder(Some(8));
        let message = |e: Result<()>| e.unwrap_err().to_string();
        assert!(message(calibration.ensure_of(&cut, Prompt::None)).contains("these have 8"));
        assert!(message(calibration.ensure_of(&whole, Prompt::Text("query: "))).contains("prompt"));
        assert!(message(calibration.add(&cut.embed_batch(&texts).unwrap())).contains("found 8"));
        let other = Calibration { fingerprint: "0".to_owned(), ..calibration.clone() };
        assert!(message(other.ensure_of(&whole, Prompt::None)).contains("model"));
        let paths = [&calibration, &other].map(|c| c.path().unwrap());
        assert_ne!(paths[0], paths[1]);

        fs::write(&file, r#"{"min":[1],"max":[0]}"#).unwrap();
        assert!(Calibration::read(&file).unwrap_err().to_string().contains("no file of ranges"));
        let broken = Calibration { min: vec![9.0; calibration.dims], ..calibration };
        broken.write(&file).unwrap();
        assert!(Calibration::read(&file).unwrap_err().to_string().contains("min <= max"));
    }
}
