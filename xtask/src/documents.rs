//! The commands in README.md and docs/ are understood.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command};
use crate::tidy::root;

/// README.md and docs/**/*.md, as far as they exist.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "md") => {
                    found.push(path)
                }
                false => {}
            }
        }
    }
    found
}

/// The lines of the fenced `sh` blocks in `text`; a line that ends in a backslash goes on in the next.
fn shell_lines(text: &str) -> Vec<String> {
    let mut lines = vec![];
    let mut in_block = false;
    let mut pending = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            in_block = !in_block && line == "```sh";
        } else if in_block {
            match line.strip_suffix('\\') {
                Some(start) => pending.push_str(start),
                None => lines.push(std::mem::take(&mut pending) + line),
            }
        }
    }
    lines
}

/// The words of a command up to a comment, a pipe or the like; quotes are understood, nothing else is.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | ';' | '>' | '&') => break,
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The arguments of `cargo xtask` in `line`, if it is such a command: `VARIABLE=value cargo xtask …`.
fn xtask_arguments(line: &str) -> Option<Vec<String>> {
    let words = words(line.strip_prefix("$ ").unwrap_or(line));
    let command: Vec<String> = words.into_iter().skip_while(|word| word.contains('=')).collect();
    let [cargo, xtask, arguments @ ..] = &command[..] else { return None };
    (cargo == "cargo" && xtask == "xtask").then(|| arguments.to_vec())
}

/// Why a reader could not run `arguments`.
fn complaint(arguments: &[String]) -> Option<String> {
    let command = match Cli::try_parse_from([&["cargo xtask".to_owned()], arguments].concat()) {
        Ok(cli) => cli.command,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return None,
        Err(error) => return Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    };
    match command {
        Some(Command::Plan(of) | Command::RunExperiment(of)) => unknown_experiment(&of.arguments),
        Some(Command::Test { package: Some(package), .. }) if package != "CRATE" => {
            let folder = package.strip_prefix("forerun-").unwrap_or(&package);
            let exists =
                root().join("crates").join(folder).exists() || root().join(folder).exists();
            (!exists).then(|| format!("there is no crate {package}"))
        }
        _ => None,
    }
}

fn unknown_experiment(arguments: &[OsString]) -> Option<String> {
    let name = arguments.first()?.to_str()?;
    let configs = root().join("crates/experiments/configs");
    // A placeholder, or the reader's own file; and while there are no experiments yet, any name.
    let is_placeholder = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let has_experiments = fs::read_dir(&configs).is_ok_and(|mut entries| entries.next().is_some());
    let exists = configs.join(format!("{name}.toml")).exists() || name.ends_with(".toml");
    (has_experiments && !is_placeholder && !exists)
        .then(|| format!("there is no experiment {name}"))
}

#[test]
fn every_documented_command_is_understood() {
    let mut complaints = vec![];
    for document in documents() {
        let Ok(text) = fs::read_to_string(&document) else { continue };
        for line in shell_lines(&text) {
            if let Some(problem) =
                xtask_arguments(&line).and_then(|arguments| complaint(&arguments))
            {
                complaints.push(format!("{}: {line}: {problem}", document.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn commands_are_found_and_nonsense_is_noticed() {
    let text = "```sh\n$ RUN_SLOW=1 cargo xtask test \\\n  tokens # fast\nls | cargo xtask\n```\n```toml\ncargo xtask no\n```\n";
    let found: Vec<_> = shell_lines(text).iter().filter_map(|line| xtask_arguments(line)).collect();
    assert_eq!(found, [["test", "tokens"]]);
    let check = |line: &str, fine: bool| {
        let problem = complaint(&xtask_arguments(line).unwrap());
        assert_eq!(problem.is_none(), fine, "{line}: {problem:?}");
    };
    check("cargo xtask", true);
    check("cargo xtask run-experiment NAME --set 'a = 1' | tee log", true);
    check("cargo xtask setup --help", true);
    check("cargo xtask test forerun-tokens", true);
    check("cargo xtask test no-such-crate", false);
    check("cargo xtask frobnicate", false);
    check("cargo xtask setup --gpu", false);
    check("cargo xtask plan", false);
}

#[test]
fn ci_runs_the_command_that_the_readme_names() {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let commands: Vec<_> = script.lines().filter_map(xtask_arguments).collect();
    assert_eq!(commands, [["test"], ["lint"], ["doc"]]);
    if let Ok(readme) = fs::read_to_string(root().join("README.md")) {
        let documented: Vec<_> =
            shell_lines(&readme).iter().filter_map(|line| xtask_arguments(line)).collect();
        assert!(
            documented.contains(&vec!["test".to_owned()]),
            "README.md names `cargo xtask test`"
        );
    }
}
