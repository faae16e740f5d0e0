use super::*;
use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A stream that a test reads afterwards.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn layout(number: Number) -> Layout {
    Layout { width: 2, number, ids: false, id_type: None, text: false, base64: false, chunks: false }
}

fn record(id: Id, text: &str) -> Record {
    Record { id, text: text.into(), line: 1, place: None }
}

fn written(format: Format, layout: Layout, records: &[Record], vectors: &Vectors) -> Result<Vec<u8>> {
    let out = Shared::default();
    let mut writer = Writer::open(Begin::Stream(Box::new(out.clone())), format, layout, 2, Duration::ZERO)?;
    writer.push(records, &vec![0; records.len()], vectors)?;
    assert_eq!(writer.finish()?, records.len() as u64);
    let bytes = out.0.lock().unwrap().clone();
    Ok(bytes)
}

fn rows() -> (Vec<Record>, Vectors) {
    (vec![record(Id::Row(0), "a"), record(Id::Row(1), "b")], Vectors::F32(vec![0.5, -1.0, 1e-7, 0.1]))
}

#[test]
fn json_lines_are_objects_with_the_shortest_exact_numbers() {
    let (records, vectors) = rows();
    let out = String::from_utf8(written(Format::Jsonl, layout(Number::F32), &records, &vectors).unwrap()).unwrap();
    assert_eq!(out, "{\"index\":0,\"embedding\":[0.5,-1.0]}\n{\"index\":1,\"embedding\":[1e-7,0.1]}\n");
    let layout = Layout { ids: true, text: true, ..layout(Number::I8) };
    let records = [record(Id::Text("\"q".into()), "a\n"), record(Id::Json("2.50".into()), "")];
    let out = written(Format::Jsonl, layout, &records, &Vectors::I8(vec![-128, 127, 0, 1])).unwrap();
    let expected = "{\"id\":\"\\\"q\",\"text\":\"a\\n\",\"embedding\":[-128,127]}\n{\"id\":2.50,\"text\":\"\",\"embedding\":[0,1]}\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn csv_quotes_what_needs_quotes() {
    let layout = Layout { ids: true, text: true, ..layout(Number::F32) };
    let (mut records, vectors) = rows();
    records[0] = record(Id::Text("a,b".into()), "say \"x\"\nagain");
    records[1] = record(Id::Int(7), "");
    let out = String::from_utf8(written(Format::Csv, layout, &records, &vectors).unwrap()).unwrap();
    assert_eq!(out, "id,text,e0,e1\n\"a,b\",\"say \"\"x\"\"\nagain\",0.5,-1.0\n7,\"\",1e-7,0.1\n");
}

#[test]
fn numpy_arrays_say_their_shape_and_raw_is_their_body() {
    let (records, vectors) = rows();
    let array = written(Format::Npy, layout(Number::F32), &records, &vectors).unwrap();
    assert_eq!(&array[..10], b"\x93NUMPY\x01\x00\x76\x00");
    let header = std::str::from_utf8(&array[10..128]).unwrap();
    assert!(
        header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }  ") && header.ends_with(" \n")
    );
    let body: Vec<u8> = [0.5f32, -1.0, 1e-7, 0.1].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(array[128..], body);
    assert_eq!(written(Format::Raw, layout(Number::F32), &records, &vectors).unwrap(), body);
    let bytes = Vectors::U8(vec![1, 2, 3, 255]);
    assert_eq!(written(Format::Raw, layout(Number::U8), &records, &bytes).unwrap(), [1, 2, 3, 255]);
    assert_eq!(npy(embral::Embeddings::new(vec![0.5, -1.0, 1e-7, 0.1], 2)), array);
}

#[test]
fn the_short_form_is_one_line_a_text() {
    let (mut records, vectors) = rows();
    records[0].text = "two\nlines ".repeat(40);
    let out = String::from_utf8(written(Format::Short, layout(Number::F32), &records, &vectors).unwrap()).unwrap();
    assert_eq!(out.lines().count(), 2);
    assert!(out.starts_with("[ 0.5000, -1.0000] 2 dims  two lines two lines"), "{out}");
    assert!(out.lines().next().unwrap().ends_with('…'));
}

#[test]
fn ids_that_are_not_what_they_must_be_are_named() {
    let layout = Layout { ids: true, id_type: Some(IdType::Int64), ..layout(Number::F32) };
    let (mut records, vectors) = rows();
    (records[0].id, records[1].id) = (Id::Text(" 5".into()), Id::Text("x".into()));
    let error = written(Format::Jsonl, layout, &records, &vectors).unwrap_err();
    assert!(error.to_string().contains("the id \"x\" is no integer: pass --id-type string"), "{error}");
}

#[test]
fn an_output_by_an_unknown_name_has_no_format() {
    let formats = ["a.jsonl", "a.CSV", "a.npy", "a.pq", "a.raw", "a", "a.txt"].map(|name| Format::of(Path::new(name)));
    use Format::{Csv, Jsonl, Npy, Parquet, Raw};
    assert_eq!(formats, [Some(Jsonl), Some(Csv), Some(Npy), Some(Parquet), Some(Raw), None, None]);
}

#[test]
fn a_journal_goes_on_with_its_own_settings_alone() {
    let settings = |dims: &str| [("--dims".to_owned(), dims.to_owned())].into();
    let journal = Journal::new(settings("256"), vec![0.25, 0.5]);
    assert!(journal.ensure_same(&Journal::new(settings("256"), vec![0.25, 0.5001])).is_ok());
    let other = journal.ensure_same(&Journal::new(settings("128"), vec![0.25, 0.5])).unwrap_err();
    assert!(other.to_string().contains("--dims was 256 and is 128"), "{other}");
    let model = journal.ensure_same(&Journal::new(settings("256"), vec![0.25, -0.5])).unwrap_err();
    assert!(model.to_string().contains("other vectors"), "{model}");
}

#[test]
fn what_lies_in_the_way_decides_how_a_run_begins() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::new(&folder.path().join("out.raw"));
    assert!(matches!(names.find(false, false).unwrap(), Found::Nothing));
    assert!(matches!(names.find(true, false).unwrap(), Found::Nothing));

    let mut partial = Partial::open(names.clone(), Journal::default()).unwrap();
    partial.append(b"abcdef").unwrap();
    let busy = Partial::open(names.clone(), Journal::default());
    assert!(busy.is_err_and(|e| e.to_string().contains("another run")));
    partial.commit(2, 4, 77).unwrap();
    drop(partial);
    assert!(names.find(false, false).unwrap_err().to_string().contains("--resume"));
    assert!(names.find(true, false).is_err_and(|e| e.to_string().contains("another version")));

    let mut partial = Partial::open(names.clone(), Journal::new([].into(), vec![])).unwrap();
    partial.append(b"abcdef").unwrap();
    partial.commit(2, 4, 77).unwrap();
    partial.append(b"lost").unwrap();
    drop(partial);
    let Found::Unfinished(journal) = names.find(true, false).unwrap() else { panic!("there is a run to go on with") };
    assert_eq!((journal.rows, journal.bytes, journal.chain), (2, 4, 77));
    let mut partial = Partial::open(names.clone(), *journal).unwrap();
    partial.append(b"XY").unwrap();
    partial.finish(Some(b"A")).unwrap();
    assert_eq!(std::fs::read(&names.out).unwrap(), b"AbcdXY");
    assert!(matches!(names.find(true, false).unwrap(), Found::Complete));
    assert!(names.find(false, false).unwrap_err().to_string().contains("--overwrite"));
    assert!(matches!(names.find(false, true).unwrap(), Found::Nothing));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(Names::new(Path::new("/no/such/folder/x.npy")).find(false, false).is_err());
}

#[test]
fn a_run_that_fails_before_a_row_is_safe_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::new(&folder.path().join("out.raw"));
    let mut partial = Partial::open(names, Journal::new([].into(), vec![])).unwrap();
    partial.append(b"abc").unwrap();
    drop(partial);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
