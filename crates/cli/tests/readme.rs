//! Runs the commands that README.md shows, in a folder with the files they name.

use std::{fs, path::Path, process::Command};

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap()
}

/// The words of a command line: split at spaces, with double quotes around a word that has some.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

fn embral(folder: &Path, arguments: &[String]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_embral")).args(arguments).current_dir(folder).output().unwrap();
    assert!(out.status.success(), "embral {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_first_command_prints_what_the_readme_shows() {
    let readme = readme();
    let (_, shown) = readme.split_once("$ cargo run --release -- ").expect("the README shows a first command");
    let (command, rest) = shown.split_once('\n').unwrap();
    let (expected, _) = rest.split_once("```").unwrap();
    let mut arguments = words(command);
    // At a terminal the short form is the default.
    arguments.extend(["--format".to_owned(), "short".to_owned()]);
    assert_eq!(embral(Path::new("."), &arguments), expected);
}

#[test]
fn every_command_of_the_readme_runs() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "plants make sugar from light\nrates rose\na cat slept\n").unwrap();
    fs::write(folder.path().join("texts.jsonl"), "{\"id\":\"a\",\"text\":\"one\"}\n{\"id\":\"b\",\"text\":\"two\"}\n")
        .unwrap();
    let mut ran = 0;
    for line in readme().lines().filter_map(|l| l.strip_prefix("$ embral ")) {
        let arguments = words(line);
        // These need the hub, or a model from it.
        if arguments[0] == "models" || arguments.iter().any(|a| a == "-m") {
            println!("skipped: embral {line}");
            continue;
        }
        embral(folder.path(), &arguments);
        ran += 1;
    }
    assert!(ran >= 3, "{ran} commands ran");
    assert!(folder.path().join("vectors.parquet").metadata().unwrap().len() > 0);
}
