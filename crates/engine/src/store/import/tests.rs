//! Archives, well-meant and hostile, made in the tests.

use super::*;
use flate2::{Compression, write::GzEncoder};
use std::io::Cursor;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

const MODEL: [(&str, &[u8]); 6] = [
    ("1_Pooling/config.json", b"{}"),
    ("config.json", b"{\"_name_or_path\":\"somebody/base\"}"),
    ("model.safetensors", b"weights"),
    ("modules.json", b"[]"),
    ("tokenizer.json", b"{}"),
    ("README.md", b"a model"),
];

fn model_in<'a>(root: &str, more: &[(&str, &'a [u8])]) -> Vec<(String, &'a [u8])> {
    let mut entries: Vec<(String, &[u8])> = MODEL.iter().map(|(n, b)| (format!("{root}{n}"), *b)).collect();
    entries.extend(more.iter().map(|(n, b)| ((*n).to_owned(), *b)));
    entries
}

fn zip(entries: &[(String, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(vec![]));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in entries {
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A tar whose names are written as they are, whatever they are.
fn tar(entries: &[(String, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(vec![]);
    for (name, bytes) in entries {
        let mut header = ::tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("store/models")
    }

    fn import(&self, file: &Path, name: Option<&str>) -> Result<Imported> {
        import(&self.models(), file, name, &Limits::default())
    }

    /// Everything that lies in the place, but for the lock and the archive `file`.
    fn everything(&self, file: &Path) -> Vec<String> {
        let mut all = snapshot::names(self.folder.path());
        all.retain(|name| !name.ends_with("/.lock") && self.folder.path().join(name) != file);
        all
    }
}

#[test]
fn every_form_gives_the_same_model() {
    let place = Place::new();
    let entries = model_in("pkg/model/", &[("pkg/__init__.py", b"x"), ("pkg-0.1.dist-info/METADATA", b"x")]);
    let files = [
        place.file("gt_tiny-0.1.0-py3-none-any.whl", &zip(&entries)),
        place.file("b.zip", &zip(&entries)),
        place.file("c.tar", &tar(&entries)),
        place.file("d.tar.gz", &gz(&tar(&entries))),
    ];
    for (file, name) in files.iter().zip(["gt-tiny", "b", "c", "d"]) {
        let imported = place.import(file, None).unwrap();
        assert_eq!((imported.name.as_str(), imported.files), (name, 6));
        assert_eq!(imported.path, place.models().join(name));
        for (name, bytes) in MODEL {
            assert_eq!(fs::read(imported.path.join(name)).unwrap(), bytes);
        }
        assert_eq!(snapshot::names(&imported.path).len(), 6);
        let again = place.import(file, None).unwrap_err();
        assert!(again.to_string().contains("models rm"), "{again}");
    }
    let folder = place.import(&place.models().join("gt-tiny"), Some("org/other")).unwrap();
    assert_eq!(folder.path, place.models().join("org--other"));
    let names: Vec<String> =
        fs::read_dir(place.models()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.starts_with(UNFINISHED)), "{names:?}");
}

#[test]
fn a_model_is_found_by_its_weights_and_what_lies_beside_them() {
    let find = |names: &[&str]| find(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    let root = |names: &[&str]| find(names).unwrap().root;
    assert_eq!(root(&["a/b/config.json", "a/b/model.safetensors", "c.py"]), "a/b/");
    assert_eq!(root(&["tokenizer.json", "model.safetensors"]), "");
    assert_eq!(
        root(&["m/modules.json", "m/0_StaticEmbedding/model.safetensors", "m/0_StaticEmbedding/tokenizer.json"]),
        "m/"
    );
    let dense = ["m/config.json", "m/model.safetensors", "m/2_Dense/config.json", "m/2_Dense/model.safetensors"];
    assert_eq!(find(&dense).unwrap().files.len(), 4);
    let several = find(&["a/config.json", "a/model.safetensors", "b/config.json", "b/model.safetensors"]).unwrap_err();
    assert!(several.to_string().contains("a/, b/"), "{several}");
    let none = find(&["a.py"]).unwrap_err();
    assert!(none.to_string().contains("model.safetensors"), "{none}");
    let foreign = find(&["x/config.json", "x/tf_model.h5"]).unwrap_err();
    assert!(foreign.to_string().contains("not read"), "{foreign}");
}

#[test]
fn paths_that_lead_out_are_refused_in_every_form() {
    for name in ["../evil", "/evil", "a/../../evil", "a\\..\\evil", "c:/evil"] {
        let entries = model_in("m/", &[(name, b"evil")]);
        for (file, bytes) in [("x.tar", tar(&entries)), ("x.tgz", gz(&tar(&entries))), ("x.zip", zip(&entries))] {
            let place = Place::new();
            let file = place.file(file, &bytes);
            let error = place.import(&file, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}");
            assert!(place.everything(&file).is_empty(), "{name}: {:?}", place.everything(&file));
        }
    }
}

#[test]
fn links_and_devices_are_refused() {
    use ::tar::EntryType;
    for kind in
        [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo, EntryType::GNUSparse]
    {
        let mut builder = ::tar::Builder::new(vec![]);
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path("m/tokenizer.json").unwrap();
        header.set_size(0);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
        let place = Place::new();
        let file = place.file("x.tar", &builder.into_inner().unwrap());
        let error = place.import(&file, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{kind:?}: {error}");
    }
    let mut writer = ZipWriter::new(Cursor::new(vec![]));
    writer.add_symlink("m/vocab.txt", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let place = Place::new();
    let file = place.file("x.zip", &writer.finish().unwrap().into_inner());
    assert!(place.import(&file, None).unwrap_err().to_string().contains("a link"));
}

#[test]
fn bombs_are_stopped_and_nothing_stays() {
    let zeros = vec![0; 4 << 20];
    let entries = model_in("m/", &[("m/vocab.txt", &zeros)]);
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    for (file, bytes) in [("x.tgz", gz(&tar(&entries))), ("x.zip", zip(&entries)), ("x.tar", tar(&entries))] {
        let place = Place::new();
        let file = place.file(file, &bytes);
        let error = import(&place.models(), &file, None, &limits).unwrap_err();
        assert!(error.to_string().contains("bomb"), "{error}");
        assert!(place.everything(&file).is_empty());
    }
    let crowd: Vec<(String, &[u8])> = (0..20).map(|i| (format!("f{i}"), &b""[..])).collect();
    let place = Place::new();
    for bytes in [zip(&crowd), tar(&crowd)] {
        let file = place.file("x", &bytes);
        let limits = Limits { entries: 10, ..Limits::default() };
        let error = import(&place.models(), &file, None, &limits).unwrap_err();
        assert!(error.to_string().contains("10 entries"), "{error}");
    }
}

#[test]
fn the_ratio_counts_beyond_what_is_small() {
    let limits = Limits::default();
    let zeros = gz(&tar(&[("zeros".to_owned(), &vec![0; 65 << 20])]));
    let mut read = 0;
    let result = archive::visit(Cursor::new(zeros), Form::TarGz, &limits, &mut |_, content| {
        read += io::copy(content, &mut io::sink()).map_err(|e| Error::new(ErrorKind::Malformed, e.to_string()))?;
        Ok(())
    });
    assert!(result.unwrap_err().to_string().contains("bomb"));
    assert_eq!(read, 0);
}

#[test]
fn entries_are_listed_with_their_lengths() {
    let entries = model_in("m/", &[]);
    for bytes in [zip(&entries), tar(&entries), gz(&tar(&entries))] {
        let listed = archive::archive_entries(&bytes, &Limits::default()).unwrap();
        assert_eq!(listed.len(), entries.len());
        assert_eq!(listed[2], ("m/model.safetensors".to_owned(), 7));
        for cut in 0..bytes.len() {
            let _ = archive::archive_entries(&bytes[..cut], &Limits::default());
        }
    }
    assert_eq!(archive::archive_entries(b"junk", &Limits::default()).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn a_long_name_is_taken_and_an_endless_one_refused() {
    let long = format!("{}/", "d".repeat(150));
    let entries = model_in(&long, &[]);
    let mut builder = ::tar::Builder::new(vec![]);
    for (name, bytes) in &entries {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    let place = Place::new();
    let file = place.file("long.tar", &builder.into_inner().unwrap());
    assert_eq!(place.import(&file, Some("long")).unwrap().files, 6);
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(::tar::EntryType::GNULongName);
    header.set_size(1 << 20);
    header.set_cksum();
    let mut builder = ::tar::Builder::new(vec![]);
    builder.append(&header, &vec![b'a'; 1 << 20][..]).unwrap();
    let file = place.file("endless.tar", &builder.into_inner().unwrap());
    assert!(place.import(&file, None).unwrap_err().to_string().contains("too long"));
}

#[test]
fn what_a_killed_import_left_is_swept_and_a_broken_archive_leaves_nothing() {
    let place = Place::new();
    let left = place.models().join(format!("{UNFINISHED}x"));
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("model.safetensors"), b"half").unwrap();
    let entries = model_in("", &[]);
    for bytes in [zip(&entries), gz(&tar(&entries)), tar(&entries)] {
        for cut in [bytes.len() / 4, bytes.len() / 2, bytes.len() * 3 / 4] {
            let file = place.file("cut", &bytes[..cut]);
            if let Ok(imported) = place.import(&file, Some("whole-enough")) {
                assert_eq!(fs::read(imported.path.join("model.safetensors")).unwrap(), b"weights");
                fs::remove_dir_all(imported.path).unwrap();
            }
        }
    }
    let file = place.file("whole.zip", &zip(&entries));
    place.import(&file, None).unwrap();
    assert!(!left.exists());
    let mut folders: Vec<_> = fs::read_dir(place.models()).unwrap().map(|e| e.unwrap().file_name()).collect();
    folders.sort();
    assert_eq!(folders, [".lock", "whole"]);
    for bytes in [&b""[..], b"PK\x03\x04", b"PK\x05\x06", &[0x1f, 0x8b], &[0; 600]] {
        let file = place.file("junk", bytes);
        place.import(&file, None).unwrap_err();
    }
}

#[test]
fn a_name_that_leads_away_is_refused() {
    let place = Place::new();
    let file = place.file("x.zip", &zip(&model_in("", &[])));
    for name in ["../x", "/x", ".x", "a/b/c", "a--b"] {
        assert_eq!(place.import(&file, Some(name)).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
    }
    assert_eq!(place.everything(&file), Vec::<String>::new());
}
