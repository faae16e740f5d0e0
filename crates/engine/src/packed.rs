//! Which packed weights are kept on disk, and under which name.

use crate::{
    Config,
    store::{Environment, PackedFolder},
};
use embral_cpu::{Cpu, Kept, PackedWeights};
use embral_formats::{Weights, packed};
use embral_types::Precision;
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Models with fewer bytes of weights are packed in less time than it takes to say so.
const SMALLEST: usize = 4 << 20;
/// Bytes of each end of a tensor that the name of a file depends on.
const SAMPLE: usize = 64;

/// The packed weights on this machine.
pub(crate) struct PackedCache {
    folder: PackedFolder,
    /// Bytes of weights below which nothing is kept.
    smallest: usize,
}

impl PackedCache {
    /// What `config` and the variables of the process allow.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        if !config.packed_cache || !config.parts.is_empty() || !pays(config.precision) {
            return None;
        }
        let environment = Environment::of_process().ok().filter(|e| e.keep_packed)?;
        Some(Self { folder: PackedFolder::new(environment.packed?), smallest: SMALLEST })
    }

    /// The file for these weights; `None` where they are too few. It may not be there yet.
    ///
    /// Its name is a hash of names, formats, shapes and the ends of the values of all tensors, which takes a page or two of each. That
    /// two models that differ in between have one file costs packing, never a wrong matrix.
    pub(crate) fn file(&self, weights: &dyn Weights, precision: Precision) -> Option<PathBuf> {
        let (sample, sum) = sampled(weights);
        let all = [PackedWeights::form(precision).into_bytes(), sample].concat();
        let name = format!("{:032x}-{}", packed::hash(&all), precision.name());
        (sum >= self.smallest).then(|| self.folder.file(&name))
    }

    /// Ends the loading of packed weights, and keeps those that were not there. That there is no room for them, or no right to write
    /// them, is no error: the model is loaded.
    pub(crate) fn keep(&self, backend: &mut Cpu, file: &Path) {
        if !file.exists() && fs::create_dir_all(self.folder.path()).is_err() {
            return;
        }
        match backend.keep_packed() {
            // By this time it is kept or removed. On a file system that is read-only it stays that of writing.
            Some(Ok(Kept::Found)) => {
                let _ = fs::File::options().append(true).open(file).and_then(|f| f.set_modified(SystemTime::now()));
            }
            Some(Ok(Kept::Written(_))) => {
                let _ = self.folder.prune();
            }
            Some(Err(_)) | None => {}
        }
    }
}

/// Names, formats, shapes and the ends of the values of all tensors, in the order of their names, and the bytes of all values.
pub(crate) fn sampled(weights: &dyn Weights) -> (Vec<u8>, usize) {
    let mut all = Vec::new();
    let mut sum = 0;
    let mut names = weights.names();
    names.sort_unstable();
    for name in names {
        // What cannot be read is no weight.
        let Ok(tensor) = weights.stored(&name) else { continue };
        let bytes = tensor.bytes();
        sum += bytes.len();
        all.extend(format!("{name:?} {} {:?};", tensor.dtype(), tensor.shape()).into_bytes());
        all.extend(&bytes[..bytes.len().min(SAMPLE)]);
        all.extend(&bytes[bytes.len().saturating_sub(SAMPLE)..]);
    }
    (all, sum)
}

/// Whether a start from packed weights is so much shorter that it is worth the room on the disk.
///
/// all-MiniLM-L6-v2, process time of a start and one text on one core of a Zen 5, packing and mapping: int8 167 and 51 ms with a file
/// of 11 MB, bf16 84 and 55 ms with 21 MB, f32 84 and 56 ms with 42 MB, as much again as the weights that are packed. Hashing all of
/// the weights is 2 of these milliseconds, so that no name or date has to be trusted in its place.
fn pays(precision: Precision) -> bool {
    match precision {
        Precision::F32 => false,
        Precision::Bf16 | Precision::Int8 => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::{Encoder, Native};
    use crate::open::{self, Opened};
    use embral_cpu::Cpu;
    use embral_testkit::golden::Golden;
    use embral_types::Batch;

    type Model = Opened<Native<Cpu>>;

    fn open(folder: &Path, name: &str, config: &Config, packed: Option<&PackedCache>) -> Model {
        open::native(folder, name, config, &config.precision.into(), packed).unwrap()
    }

    fn vectors(opened: &Model) -> Vec<u32> {
        let ids: Vec<u32> = (5..25).collect();
        let mut batch = Batch::default();
        for len in [1, 7, 20] {
            batch.push(&ids[..len]);
        }
        let mut out = vec![0.0; batch.len() * opened.info.dimensions];
        opened.encoder.encode(&batch, 0, &mut out).unwrap();
        out.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn vectors_are_the_same_bits_packed_mapped_and_from_what_is_damaged() {
        for model in ["tiny_bert", "tiny_qwen3", "tiny_bert_sharded", "tiny_bert_dense"] {
            let golden = Golden::load(model);
            for precision in Precision::ALL {
                let home = tempfile::tempdir().unwrap();
                let folder = PackedFolder::new(home.path().join("a/packed"));
                let cache = PackedCache { folder: folder.clone(), smallest: 0 };
                let config = Config { precision, threads: Some(1), ..Config::default() };
                let vectors_with = |packed| vectors(&open(&golden.folder, model, &config, packed));
                let wanted = vectors_with(None);
                assert_eq!(folder.bytes().unwrap(), 0);
                assert_eq!(vectors_with(Some(&cache)), wanted);
                let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
                let [file] = &files[..] else { panic!("expected one file, found {files:?}") };
                let whole = fs::read(file).unwrap();
                assert_eq!(vectors_with(Some(&cache)), wanted);
                assert!(fs::read(file).unwrap() == whole);
                for damaged in [&whole[..whole.len() - 1], &whole[..70], b""] {
                    fs::write(file, damaged).unwrap();
                    assert_eq!(vectors_with(Some(&cache)), wanted);
                    assert!(fs::read(file).unwrap() == whole, "{model}: the file is written anew");
                }
                let large = PackedCache { folder: folder.clone(), smallest: usize::MAX };
                folder.clear().unwrap();
                assert_eq!(vectors_with(Some(&large)), wanted);
                assert_eq!(folder.bytes().unwrap(), 0);
            }
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let golden = Golden::load("tiny_bert");
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "no folder").unwrap();
        let cache = PackedCache { folder: PackedFolder::new(file.join("packed")), smallest: 0 };
        let config = Config { precision: Precision::Int8, ..Config::default() };
        let without = open(&golden.folder, "tiny_bert", &config, None);
        let with = open(&golden.folder, "tiny_bert", &config, Some(&cache));
        assert_eq!(vectors(&with), vectors(&without));
    }
}
