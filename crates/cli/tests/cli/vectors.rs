//! Vectors that are kept from run to run.

use crate::process::{command, finish, good, run, write_texts};
use std::{fs, path::Path, thread::sleep, time::Duration};

fn same(at: &Path, a: &str, b: &str) {
    assert!(fs::read(at.join(a)).unwrap() == fs::read(at.join(b)).unwrap(), "{a} and {b} differ");
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    good(at, "embed x -m $STATIC");
    good(at, "similarity x y -m $BERT --vector-cache off");
    good(at, "embed x -m $STATIC --vector-cache memory");
    assert!(!at.join("cache/vectors").exists());
    write_texts(&at.join("in.txt"), 3);
    good(at, "search in.txt x -m $STATIC --vector-cache on");
    assert!(at.join("cache/vectors/vectors.sqlite").exists());
}

#[test]
fn a_second_run_takes_the_vectors_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 300);
    good(at, "embed -i in.txt -m $BERT -o plain.npy -q");
    let ran = run(at, "embed -i in.txt -m $BERT -o first.npy -q --profile --vector-cache kept");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!ran.err.contains("from the vector cache"), "{}", ran.err);
    let ran =
        finish(command(at, "embed -i in.txt -m $BERT -o second.npy -q --profile").env("EMBRAL_VECTOR_CACHE", "kept"));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("300 of the texts from the vector cache\n300 texts, 0 tokens"), "{}", ran.err);
    same(at, "plain.npy", "first.npy");
    same(at, "plain.npy", "second.npy");
    // What is typed stands above the variable.
    let off = finish(
        command(at, "embed -i in.txt -m $BERT -o third.npy -q --profile --vector-cache off")
            .env("EMBRAL_VECTOR_CACHE", "kept"),
    );
    assert!(!off.err.contains("from the vector cache"), "{}", off.err);

    let info = good(at, "cache info kept");
    assert!(info.starts_with("path     kept\nvectors  301\n"), "{info}");
    let json: serde_json::Value = serde_json::from_str(&good(at, "cache info kept --json")).unwrap();
    assert_eq!((&json["vectors"], &json["damage"]), (&301.into(), &serde_json::Value::Null));
    assert!(good(at, "cache clear kept").starts_with("removed 301 vectors, 0."));
    assert!(good(at, "cache info kept").contains("vectors  0\n"));
    assert!(good(at, "cache info").contains("vectors  0\n"));
    assert!(good(at, "cache clear").starts_with("removed 0 vectors"));
}

#[test]
fn a_store_that_is_damaged_costs_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 100);
    good(at, "embed -i in.txt -m $STATIC -o plain.npy -q");
    good(at, "embed -i in.txt -m $STATIC -o a.npy -q --vector-cache kept");
    let store = at.join("kept/vectors.sqlite");
    let whole = fs::read(&store).unwrap();
    let mut torn = whole.clone();
    torn[4096..].iter_mut().step_by(5).for_each(|b| *b ^= 0xa5);
    for (i, bytes) in
        [&whole[..whole.len() / 2], &torn, b"something else altogether, and no database"].into_iter().enumerate()
    {
        fs::write(&store, bytes).unwrap();
        let ran = run(at, &format!("embed -i in.txt -m $STATIC -o {i}.npy -q --vector-cache kept"));
        assert_eq!((ran.code, ran.err.lines().count()), (Some(0), 1), "{}", ran.err);
        assert!(ran.err.starts_with("embral: kept/vectors.sqlite: ") && ran.err.contains("cache clear"), "{}", ran.err);
        same(at, "plain.npy", &format!("{i}.npy"));
        assert_eq!(run(at, "cache info kept").code, Some(1));
        let json: serde_json::Value = serde_json::from_str(&good(at, "cache info kept --json")).unwrap();
        assert!(json["damage"].is_string() && json["vectors"].is_null(), "{json}");
    }
    good(at, "cache clear kept");
    good(at, "embed -i in.txt -m $STATIC -o b.npy -q --vector-cache kept");
    assert!(good(at, "cache info kept").contains("vectors  101\n"));
}

#[test]
fn processes_share_a_folder_and_some_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 3000);
    good(at, "embed -i in.txt -m $BERT -o plain.raw -q");
    let line = |i: usize| format!("embed -i in.txt -m $BERT -o {i}.raw -q --threads 1 --vector-cache kept");
    for round in 0..3 {
        let mut children: Vec<_> = (0..4).map(|i| command(at, &line(round * 4 + i)).spawn().unwrap()).collect();
        sleep(Duration::from_millis(60 + 60 * round as u64));
        for child in &mut children[..2] {
            child.kill().unwrap();
        }
        for (i, child) in children.into_iter().enumerate() {
            let output = child.wait_with_output().unwrap();
            if i >= 2 {
                let message = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && message.is_empty(), "{message}");
                same(at, "plain.raw", &format!("{}.raw", round * 4 + i));
            }
        }
    }
    // Whoever waits too long for the others keeps nothing; nobody is in the way of the last.
    good(at, &line(99));
    same(at, "plain.raw", "99.raw");
    assert!(good(at, "cache info kept").contains("vectors  3001\n"));
}

#[test]
fn a_small_store_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 4000);
    good(at, "embed -i in.txt -m $BERT -o plain.raw -q");
    good(at, "embed -i in.txt -m $BERT -o kept.raw -q --vector-cache kept --vector-cache-size 200kB");
    same(at, "plain.raw", "kept.raw");
    assert!(fs::metadata(at.join("kept/vectors.sqlite")).unwrap().len() < 300_000);
    let wrong = run(at, "embed x --vector-cache on --vector-cache-size large");
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("expected such as 500MB or 2GiB"), "{}", wrong.err);
}
