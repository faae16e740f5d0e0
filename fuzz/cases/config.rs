//! A `config.json`: the parts of an accepted Blueprint fit together, and every tensor that it asks for has a name.

use embral_models::{Role, parse_config};

pub(crate) fn case(bytes: &[u8]) {
    let Ok((architecture, blueprint, names)) = parse_config(bytes) else { return };
    let attention = &blueprint.attention;
    assert!(attention.kv_heads > 0 && attention.heads % attention.kv_heads == 0, "{architecture:?}: {attention:?}");
    assert!(blueprint.norm.eps > 0.0 && attention.scale.is_finite());
    assert_eq!(attention.views.len(), blueprint.layers);
    for rope in attention.views.iter().filter_map(|view| view.rope) {
        assert!(2 * rope.frequencies().len() <= attention.head_dim && rope.frequencies().iter().all(|w| w.is_finite()));
    }
    assert!(blueprint.parameters() > 0);
    assert!(!names.weight(Role::Query, blueprint.layers - 1).is_empty());
}
