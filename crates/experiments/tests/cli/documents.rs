//! The experiment commands that the documents show are run as they stand there, at the smoke scale.

use std::fs;
use std::path::Path;

use crate::program::{Place, children};

#[test]
fn commands_in_the_documents_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut documents = vec![root.join("README.md")];
    documents.extend(
        children(&root.join("docs"))
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    let place = Place::new();
    // What commands read: a text, and the script that an experiment starts.
    for file in ["README.md", "xtask/peers/external/train.py"] {
        let copy = place.path().join(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(root.join(file), copy).unwrap();
    }
    let mut n_run = 0;
    for document in documents {
        for command in commands(&fs::read_to_string(&document).unwrap()) {
            let mut words: Vec<&str> = command.split_whitespace().collect();
            if words[0] == "run-experiment" && !words.contains(&"--scale") {
                words.extend(["--scale", "smoke"]);
            }
            if words.contains(&"lr-horizon-external") {
                words[0] = "plan"; // its script needs PyTorch, which is not there everywhere
            }
            place.succeed(&words);
            n_run += 1;
        }
    }
    assert!(n_run >= 6, "the documents show only {n_run} commands");
}

/// `list`, `plan …` and `run-experiment …` in fenced blocks of shell commands, without comments.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut in_shell = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_shell = line.trim() == "```sh";
        } else if let (true, Some(command)) = (in_shell, line.strip_prefix("cargo xtask ")) {
            let command = command.split(" #").next().unwrap_or_default().trim();
            if ["list", "plan", "run-experiment"]
                .iter()
                .any(|name| command.split(' ').next() == Some(name))
            {
                commands.push(command.to_owned());
            }
        }
    }
    commands
}
