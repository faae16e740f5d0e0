//! An archive that is said to hold a model: nothing is written outside of the store, and nothing half is left in it.

use std::{ffi::OsString, fs, path::Path};

use embral::store::{Environment, Store};

pub(crate) fn case(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("archive");
    fs::write(&file, bytes).expect("writable");
    let home = folder.path().join("home");
    let environment = Environment::from_variables(&|name| (name == "HOME").then(|| OsString::from(&home)));
    let store = Store::new(environment.expect("HOME says where everything is"));
    let imported = store.import(&file, Some("case"));
    let models = &store.environment().imported;

    assert_eq!(names(folder.path()).len(), 1 + usize::from(home.exists()), "beside the store");
    let left: Vec<OsString> = names(models).into_iter().filter(|name| name != ".lock").collect();
    match imported {
        Ok(imported) => {
            assert_eq!(left, ["case"]);
            assert_eq!(imported.path, models.join("case"));
            assert!(imported.files > 0);
        }
        Err(error) => assert!(left.is_empty(), "{left:?} is left after: {error}"),
    }
}

fn names(folder: &Path) -> Vec<OsString> {
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("listed").file_name()).collect()
}
