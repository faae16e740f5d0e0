//! The module files of a sentence-transformers folder: whatever is accepted stays inside the folder and within the limits.

use std::path::{Component, Path};

use embral_models::{Prompts, parse_dense, parse_modules, parse_pooling};

pub(crate) fn case(bytes: &[u8]) {
    for module in parse_modules(bytes).into_iter().flatten() {
        let inside =
            Path::new(&module.path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        assert!(inside, "{:?}", module.path);
    }
    if let Ok(pooling) = parse_pooling(bytes) {
        assert!(pooling.width.is_none_or(|width| width > 0));
    }
    if let Ok(dense) = parse_dense(bytes, Path::new("model.safetensors")) {
        assert!(dense.inputs > 0 && dense.outputs > 0 && dense.inputs.checked_mul(dense.outputs).is_some());
    }
    if let Ok(prompts) = Prompts::parse(bytes) {
        assert!(prompts.default.is_none_or(|name| prompts.prompts.contains_key(&name)));
    }
}
