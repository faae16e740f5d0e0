//! Whether workers have one model: vectors of one width, one model by name where servers tell it, and one vector for one text.

use super::back::Found;
use embral_types::{Error, ErrorKind, Result};
use std::sync::{Mutex, PoisonError};

/// The least cosine of the vectors that two workers give for one text. Those of one model in f32, f16 or 8 bits are above 0.98; those of two
/// models have nothing to do with each other.
const ALIKE: f64 = 0.95;

/// What the workers agree on: the word of the first, and the first name that a server told.
#[derive(Default)]
pub(super) struct Agreement(Mutex<Option<Agreed>>);

struct Agreed {
    worker: String,
    row: Vec<f32>,
    /// Who told, and which model.
    told: Option<(String, String)>,
}

impl Agreement {
    /// Holds what was found out about a worker against what the others are; it is one of them where there is no error.
    pub(super) fn join(&self, worker: &str, found: &Found) -> Result<()> {
        let mut agreed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = found.told.clone().map(|model| (worker.to_owned(), model));
        let Some(agreed) = &mut *agreed else {
            *agreed = Some(Agreed { worker: worker.to_owned(), row: found.row.clone(), told });
            return Ok(());
        };
        agreed.compare(worker, &found.row)?;
        match (&agreed.told, told) {
            (Some((other, theirs)), Some((_, model))) if plain(theirs) != plain(&model) => {
                let message =
                    format!("the workers of a pool have one model: {other} has {theirs}, and {worker} {model}");
                Err(Error::new(ErrorKind::Mismatch, message)
                    .hint("where these are two names of one model, put ?model=NAME behind the addresses"))
            }
            (None, told) => {
                agreed.told = told;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Holds the vector that a worker gave for the probe against that of the others.
    pub(super) fn compare(&self, worker: &str, row: &[f32]) -> Result<()> {
        let agreed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        agreed.as_ref().map_or(Ok(()), |agreed| agreed.compare(worker, row))
    }
}

impl Agreed {
    fn compare(&self, worker: &str, row: &[f32]) -> Result<()> {
        let other = &self.worker;
        let message = if row.len() != self.row.len() {
            let (theirs, width) = (self.row.len(), row.len());
            format!("{other} gives vectors of {theirs} components, and {worker} of {width}")
        } else {
            let cosine = cosine(row, &self.row);
            if cosine >= ALIKE {
                return Ok(());
            }
            format!(
                "for one text {other} and {worker} give vectors whose cosine is {cosine:.3}, expected {ALIKE} at least"
            )
        };
        let message = format!("the workers of a pool have one model: {message}");
        Err(Error::new(ErrorKind::Mismatch, message).hint("check which model each of them has"))
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}

/// What servers of different kinds call one model alike: without an organisation or folder, a tag `latest` and capitals.
fn plain(model: &str) -> String {
    let name = model.trim_end_matches('/').rsplit('/').next().unwrap_or(model);
    name.strip_suffix(":latest").unwrap_or(name).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(row: &[f32], told: Option<&str>) -> Found {
        Found { row: row.to_vec(), told: told.map(str::to_owned), info: None, batch: 1 }
    }

    #[test]
    fn width_name_and_vector_decide() {
        let agreement = Agreement::default();
        agreement.join("a", &found(&[1.0, 0.0], None)).unwrap();
        agreement.join("b", &found(&[1.0, 0.1], Some("BAAI/bge-m3"))).unwrap();
        agreement.join("c", &found(&[2.0, 0.0], Some("bge-M3:latest"))).unwrap();
        agreement.join("d", &found(&[1.0, 0.0], None)).unwrap();
        for (row, told, message) in [
            (&[1.0, 0.0, 0.0][..], None, "a gives vectors of 2 components, and x of 3"),
            (&[0.0, 1.0], None, "a and x give vectors whose cosine is 0.000, expected 0.95"),
            (&[0.0, 0.0], None, "cosine is 0.000"),
            (&[1.0, 0.0], Some("e5"), "b has BAAI/bge-m3, and x e5"),
        ] {
            let error = agreement.join("x", &found(row, told)).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(error.kind(), ErrorKind::Mismatch);
        }
        agreement.compare("a", &[1.0, 0.0]).unwrap();
        assert!(agreement.compare("a", &[-1.0, 0.0]).is_err());
    }
}
