//! The index of a sharded model: an accepted one names files beside it, never elsewhere.

use std::path::Path;

use embral_formats::ShardIndex;

pub(crate) fn case(bytes: &[u8]) {
    let index = Path::new("model/model.safetensors.index.json");
    let Ok(read) = ShardIndex::from_bytes(index, bytes) else { return };
    for shard in read.weight_map.values() {
        assert_eq!(index.with_file_name(shard).parent(), index.parent(), "{shard:?}");
    }
}
