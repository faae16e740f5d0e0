//! What models are called, and what a client may mean by a name.

use crate::settings::ModelEntry;
use embral::{Config, catalogue, default_model, memory, store::Store};
use embral_types::Result;
use std::path::Path;

/// The names of a model, the one used in answers first. Of a folder it is its last part: where it lies is nobody's business.
pub(super) fn of(entry: &ModelEntry) -> Vec<String> {
    let path = Path::new(&entry.name);
    let is_path = path.is_dir() || path.is_file();
    let own = match entry.name.as_str() {
        "" => default_model::NAME.to_owned(),
        name if name.contains("://") => name.rsplit_once("model=").map_or(name, |(_, model)| model).to_owned(),
        _ if is_path => {
            let last = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
            last.unwrap_or_else(|| "model".to_owned())
        }
        name => name.to_owned(),
    };
    let mut names = entry.aliases.clone();
    names.push(own.clone());
    if !is_path && let Some(known) = catalogue::find(&own) {
        names.extend([known.repo.clone(), known.name.clone()]);
    }
    let mut seen = Vec::with_capacity(names.len());
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(name.clone());
            true
        }
    });
    names
}

/// Whether a client that says `name` means one of `names`. Ollama's clients put a tag behind names, `:latest` where there is none.
pub(super) fn mean(names: &[String], name: &str) -> bool {
    let bare = name.strip_suffix(":latest").unwrap_or(name);
    names.iter().any(|known| known == name || known == bare)
        || catalogue::find(bare).is_some_and(|entry| names.contains(&entry.repo) || names.contains(&entry.name))
}

/// The model of the store that a client means. Only what the store lists is ever looked for: a name is never a path.
pub(super) fn stored(name: &str) -> Option<String> {
    let bare = name.strip_suffix(":latest").unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if bare.len() > 200
        || !bare.chars().all(plain)
        || bare.split('/').any(|part| part.is_empty() || part.starts_with('.'))
    {
        return None;
    }
    let all = Store::open_default().ok()?.list().ok()?;
    let known = catalogue::find(bare);
    let means =
        |stored: &str| stored == bare || known.is_some_and(|entry| stored == entry.repo || stored == entry.name);
    all.into_iter().map(|stored| stored.name).find(|stored| means(stored))
}

/// The bytes that the weights of a model will take; 0 where only its runtime knows.
pub(super) fn weight_bytes(config: &Config) -> Result<u64> {
    if config.is_remote() {
        return Ok(0);
    }
    let weights = memory::of(config)?.map(|memory| memory.weights).unwrap_or_default();
    let of = |precision| weights.iter().find(|(of, _)| *of == precision).map(|(_, bytes)| *bytes as u64);
    Ok(of(config.precision).or_else(|| weights.first().map(|(_, bytes)| *bytes as u64)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> ModelEntry {
        text.parse().unwrap()
    }

    #[test]
    fn a_model_is_known_by_its_alias_its_name_and_what_the_catalogue_calls_it() {
        let names = of(&entry("mini=all-MiniLM-L6-v2"));
        assert_eq!(names[0], "mini");
        for name in ["mini", "mini:latest", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2:latest"] {
            assert!(mean(&names, name), "{name}");
        }
        for name in ["min", "", "mini:7b", "all-mpnet-base-v2"] {
            assert!(!mean(&names, name), "{name}");
        }
        assert_eq!(of(&ModelEntry::default())[0], default_model::NAME);
        assert_eq!(of(&entry("openai+http://localhost:1/v1?model=x"))[0], "x");
    }

    #[test]
    fn a_folder_is_called_by_its_last_part() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("my-model");
        std::fs::create_dir(&model).unwrap();
        assert_eq!(of(&entry(model.to_str().unwrap())), ["my-model"]);
    }

    #[test]
    fn no_name_is_a_path() {
        for name in ["../x", "/etc/passwd", "a/../../b", "a\\b", ".", "a//b", "a/.b", "a\0b", "%2e%2e/x", "~/x"] {
            assert_eq!(stored(name), None, "{name}");
        }
    }
}
