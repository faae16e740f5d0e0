//! Inputs of any size in bounded memory.

use crate::process::command;
use std::{
    io::{BufWriter, Write},
    process::Stdio,
};

/// Bytes of the generated input.
const INPUT: usize = 200 << 20;
/// What the process may hold at its height: the program, its model and the chunks in flight, not the input.
const MOST: f64 = 120e6;

#[test]
#[cfg(target_os = "linux")]
fn an_input_larger_than_the_memory_it_may_take_streams_through() {
    let folder = tempfile::tempdir().unwrap();
    // The tokens of a text are cut at 8, so that the test is about bytes that pass and not about arithmetic.
    let line = "embed -m $STATIC --max-tokens 8 --format raw -o /dev/null --profile";
    let mut child = command(folder.path(), line).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    let text = format!("{}\n", "cat sat on the mat ".repeat(1700));
    let lines = INPUT / text.len();
    for _ in 0..lines {
        input.write_all(text.as_bytes()).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{message}");
    let profile = message.lines().find(|l| l.contains("peak memory")).expect("the profile says the peak");
    assert!(profile.starts_with(&format!("{lines} texts,")), "{profile}");
    let peak: f64 = profile.rsplit_once("peak memory ").unwrap().1.trim_end_matches(" MB").parse().unwrap();
    println!("{lines} texts, {} MB in, peak {peak} MB", INPUT >> 20);
    assert!(peak * 1e6 < MOST, "{peak} MB");
}
