//! Runs a case on the committed seeds of its target, for the ordinary tests.

use std::{fs, path::Path};

pub(crate) fn run(target: &str, case: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut seeds: Vec<_> =
        fs::read_dir(&folder).expect("seeds are there").map(|seed| seed.expect("listed").path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seed in {}", folder.display());
    for seed in seeds {
        // Shown where the case fails, so that the seed is known.
        println!("{}", seed.display());
        case(&fs::read(&seed).expect("readable"));
    }
}
