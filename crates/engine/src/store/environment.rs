//! Where things are and how the hub is reached: the variables that the Hugging Face tools read, and our own.

use embral_types::{Error, ErrorKind, Result};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// The settings of a [`crate::store::Store`]. Made from the variables of the process, or field by field.
#[derive(Clone, PartialEq, Eq)]
pub struct Environment {
    /// The folder of hub snapshots, shared with the Python tools: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, or `hub` in `HF_HOME`,
    /// which is by default `~/.cache/huggingface`.
    pub hub_cache: PathBuf,
    /// The folder of imported models: `models` in `EMBRAL_HOME`, which is by default `embral` in the user's data folder.
    pub imported: PathBuf,
    /// The folder of the ranges of 8-bit vectors: `ranges` in `EMBRAL_HOME`.
    pub ranges: PathBuf,
    /// The address of the hub: `HF_ENDPOINT`, by default `https://huggingface.co`.
    pub endpoint: String,
    /// The access token: `HF_TOKEN`, or what is in the file `HF_TOKEN_PATH`, by default `token` in `HF_HOME`.
    pub token: Option<String>,
    /// Whether the network may not be used: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// The folder of packed weights: `packed` in `EMBRAL_CACHE`, which is by default `embral` in the user's cache folder. `None` where
    /// there is no home folder either.
    pub packed: Option<PathBuf>,
    /// The folder of vectors where none is named: `vectors` beside `packed`.
    pub vectors: Option<PathBuf>,
    /// Which vectors are kept: `EMBRAL_VECTOR_CACHE`, as it stands there. The command reads it; the library keeps what
    /// [`Config::vector_cache`](crate::Config::vector_cache) says.
    pub vector_cache: Option<String>,
    /// Whether packed weights are kept: not where `EMBRAL_PACKED_CACHE` is `0`.
    pub keep_packed: bool,
}

impl std::fmt::Debug for Environment {
    /// Shows everything but the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("hub_cache", &self.hub_cache)
            .field("imported", &self.imported)
            .field("ranges", &self.ranges)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("offline", &self.offline)
            .field("packed", &self.packed)
            .field("vectors", &self.vectors)
            .field("vector_cache", &self.vector_cache)
            .field("keep_packed", &self.keep_packed)
            .finish()
    }
}

impl Environment {
    /// The settings of this process. Fails where no variable says where things are and there is no home folder.
    pub fn of_process() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    /// The settings that variables give. A variable that is empty counts as not set, as in the Python tools.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let home = set("HOME").or_else(|| set("USERPROFILE")).map(PathBuf::from);
        let path = |name: &str| set(name).map(|value| expand(Path::new(&value), home.as_deref()));
        let no_home = || {
            Error::new(ErrorKind::NotFound, "there is no home folder: HOME is not set")
                .hint("set HF_HOME and EMBRAL_HOME")
        };
        let in_home = |below: &str| home.as_ref().map(|home| home.join(below));
        let hf_home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").or_else(|| in_home(".cache")).map(|cache| cache.join("huggingface")));
        let hub_cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hf_home.as_ref().map(|folder| folder.join("hub")))
            .ok_or_else(no_home)?;
        let data = if cfg!(windows) {
            path("LOCALAPPDATA").or_else(|| in_home("AppData/Local"))
        } else if cfg!(target_os = "macos") {
            in_home("Library/Application Support")
        } else {
            path("XDG_DATA_HOME").or_else(|| in_home(".local/share"))
        };
        let cache = if cfg!(windows) {
            path("LOCALAPPDATA").or_else(|| in_home("AppData/Local"))
        } else if cfg!(target_os = "macos") {
            in_home("Library/Caches")
        } else {
            path("XDG_CACHE_HOME").or_else(|| in_home(".cache"))
        };
        let cache = path("EMBRAL_CACHE").or_else(|| cache.map(|cache| cache.join("embral")));
        let embral_home = path("EMBRAL_HOME").or_else(|| data.map(|data| data.join("embral"))).ok_or_else(no_home)?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| hf_home.map(|folder| folder.join("token")));
        let token = text("HF_TOKEN").or_else(|| fs::read_to_string(token_file?).ok());
        let truth = |value: String| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
        let denial = |value: String| matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off");
        Ok(Self {
            hub_cache,
            imported: embral_home.join("models"),
            ranges: embral_home.join("ranges"),
            endpoint: text("HF_ENDPOINT").map_or_else(
                || "https://huggingface.co".to_owned(),
                |endpoint| endpoint.trim_end_matches('/').to_owned(),
            ),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: text("HF_HUB_OFFLINE").is_some_and(truth),
            packed: cache.as_ref().map(|cache| cache.join("packed")),
            vectors: cache.map(|cache| cache.join("vectors")),
            vector_cache: text("EMBRAL_VECTOR_CACHE"),
            keep_packed: !text("EMBRAL_PACKED_CACHE").is_some_and(denial),
        })
    }
}

/// Replaces a leading `~`.
fn expand(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Environment> {
        let variables = variables.to_vec();
        Environment::from_variables(&move |name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let home = ("HOME", "/h");
        let e = of(&[home]).unwrap();
        assert_eq!(e.hub_cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!((e.endpoint.as_str(), e.token, e.offline), ("https://huggingface.co", None, false));
        let e = of(&[home, ("XDG_CACHE_HOME", "/c"), ("EMBRAL_HOME", "~/e"), ("HF_ENDPOINT", "http://m/")]).unwrap();
        assert_eq!((e.hub_cache, e.imported), ("/c/huggingface/hub".into(), "/h/e/models".into()));
        assert_eq!(e.endpoint, "http://m");
        let e = of(&[home, ("HF_HOME", "/x"), ("HF_HUB_OFFLINE", "True"), ("HF_TOKEN", " t\n")]).unwrap();
        assert_eq!((e.hub_cache, e.offline, e.token.as_deref()), ("/x/hub".into(), true, Some("t")));
        let e = of(&[home, ("HF_HOME", "/x"), ("HUGGINGFACE_HUB_CACHE", "/y"), ("HF_HUB_OFFLINE", "0")]).unwrap();
        assert_eq!((e.hub_cache, e.offline), ("/y".into(), false));
        let e = of(&[home, ("HF_HUB_CACHE", "/z"), ("HUGGINGFACE_HUB_CACHE", "/y"), ("HF_HOME", "")]).unwrap();
        assert_eq!(e.hub_cache, Path::new("/z"));
        if cfg!(all(unix, not(target_os = "macos"))) {
            assert_eq!((e.packed, e.keep_packed), (Some("/h/.cache/embral/packed".into()), true));
        }
        let e = of(&[home, ("EMBRAL_CACHE", "~/c"), ("EMBRAL_PACKED_CACHE", "0")]).unwrap();
        assert_eq!((e.packed, e.keep_packed), (Some("/h/c/packed".into()), false));
        assert_eq!((e.vectors, e.vector_cache), (Some("/h/c/vectors".into()), None));
        let e = of(&[home, ("EMBRAL_VECTOR_CACHE", "memory")]).unwrap();
        assert_eq!(e.vector_cache.as_deref(), Some("memory"));
        assert!(of(&[]).unwrap_err().to_string().contains("HF_HOME"));
        assert!(of(&[("HF_HOME", "/x"), ("EMBRAL_HOME", "/e")]).is_ok());
    }

    #[test]
    fn a_token_comes_from_its_file_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "hf_abc\n").unwrap();
        let e = of(&[("HOME", "/h"), ("HF_TOKEN_PATH", file.to_str().unwrap())]).unwrap();
        assert_eq!(e.token.as_deref(), Some("hf_abc"));
        assert!(!format!("{e:?}").contains("hf_abc"));
    }
}
