//! The manual says what the command does.

use std::{collections::BTreeSet, fs, path::Path};

fn manual() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Each command's words, and its definition.
fn commands(of: &clap::Command, words: &str, all: &mut Vec<(String, clap::Command)>) {
    for command in of.get_subcommands() {
        let words = format!("{words} {}", command.get_name());
        all.push((words.clone(), command.clone()));
        commands(command, &words, all);
    }
}

/// The part of the manual under the heading of a command.
fn section<'a>(manual: &'a str, words: &str) -> &'a str {
    let heading = format!("## {words}\n");
    let from =
        manual.find(&heading).unwrap_or_else(|| panic!("docs/cli.md has no section {heading:?}")) + heading.len();
    let rest = &manual[from..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn every_command_and_flag_is_in_the_manual() {
    let manual = manual();
    let shared = section(&manual, "Model flags");
    let mut all = Vec::new();
    commands(&embral_cli::command(), "embral", &mut all);
    assert!(all.len() > 12);
    for (words, command) in all.iter().filter(|(_, c)| c.get_subcommands().next().is_none()) {
        let section = section(&manual, words);
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long() else {
                let name = argument
                    .get_short()
                    .map_or_else(|| argument.get_id().to_string().to_uppercase(), |s| format!("-{s}"));
                let name =
                    argument.get_value_names().filter(|_| argument.is_positional()).map_or(name, |n| n[0].to_string());
                assert!(section.contains(&format!("`{name}")), "docs/cli.md: {words}: {name} is missing");
                continue;
            };
            let flag = format!("`--{long}");
            let model = argument.get_help_heading() == Some("Model");
            let there = section.contains(&flag) || long == "help" || model && shared.contains(&flag);
            assert!(there, "docs/cli.md: {words}: --{long} is missing");
        }
    }
}

#[cfg(feature = "server")]
#[test]
fn every_setting_of_the_server_is_in_its_manual_with_its_variable_and_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/server.md");
    let manual = fs::read_to_string(&path).unwrap();
    let mut all = Vec::new();
    commands(&embral_cli::command(), "embral", &mut all);
    let (_, serve) = all.iter().find(|(words, _)| words == "embral serve").unwrap();
    let mut rows = 0;
    for argument in serve.get_arguments() {
        let Some(long) = argument.get_long().filter(|long| !["help", "config", "print-config"].contains(long)) else {
            continue;
        };
        let variable = argument.get_env().unwrap().to_string_lossy();
        let named = ["|".to_owned(), format!("`--{long}`"), format!("`{variable}`")];
        let there = manual.lines().any(|line| named.iter().all(|part| line.contains(part)));
        assert!(there, "docs/server.md has no row for --{long} with {variable}");
        rows += 1;
    }
    assert!(rows > 25, "{rows}");
}

#[test]
fn the_manual_knows_no_flag_that_is_not_there() {
    let mut all = Vec::new();
    commands(&embral_cli::command(), "embral", &mut all);
    let flags: BTreeSet<String> = all
        .iter()
        .flat_map(|(_, c)| c.get_arguments().filter_map(|a| a.get_long()).map(str::to_owned).collect::<Vec<_>>())
        .chain(["help".into(), "version".into()])
        .collect();
    for word in manual().split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        let Some(flag) = word.strip_prefix("--").filter(|f| f.starts_with(|c: char| c.is_ascii_alphabetic())) else {
            continue;
        };
        assert!(
            flags.contains(flag) || ["features", "release"].contains(&flag),
            "docs/cli.md names --{flag}, which is no flag"
        );
    }
}

/// The words of an example as a shell takes them, up to its pipe.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('|' | '>', None) => break,
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

#[test]
fn the_examples_of_the_manual_and_of_the_help_are_command_lines() {
    let mut texts = manual();
    let mut all = Vec::new();
    commands(&embral_cli::command(), "embral", &mut all);
    for (_, command) in &all {
        texts.push('\n');
        texts.push_str(&command.get_after_help().map(ToString::to_string).unwrap_or_default());
    }
    for page in ["models.md", "verify.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
        for line in fs::read_to_string(path).unwrap().lines().filter_map(|l| l.strip_prefix("$ ")) {
            texts.push_str(&format!("\n  {line}"));
        }
    }
    let mut checked = 0;
    for line in texts.lines().filter(|l| l.starts_with("  ")).map(|l| l.trim().trim_start_matches("$ ")) {
        // A line with a bracket or TEXT is the form of a command and no example of it.
        let form = ["[", "TEXT", "FILE"].iter().any(|part| line.contains(part)) && !line.contains("jq");
        if !line.starts_with("embral ") || form {
            continue;
        }
        let words = words(line);
        embral_cli::command().try_get_matches_from(&words).unwrap_or_else(|e| panic!("{line}: {e}"));
        checked += 1;
    }
    assert!(checked > 20, "{checked} examples were found");
}
