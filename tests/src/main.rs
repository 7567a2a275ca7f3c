//! `golden [--dir DIR]`: checks golden files, one line each. Exit code 0 if none failed, 1 if one did or lacks its
//! companion, 2 for an empty or unknown folder or a bad argument.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output")]

use std::path::PathBuf;
use std::process::ExitCode;

use forerun_tests::{Line, Status, check_folder, exit_code};

fn main() -> ExitCode {
    tch::set_num_threads(1);
    let folders = match folders(std::env::args().skip(1).collect()) {
        Ok(folders) => folders,
        Err(message) => return refuse(&message),
    };
    let mut lines = Vec::new();
    for folder in folders {
        match check_folder(&folder) {
            Ok(checked) => lines.extend(checked),
            Err(error) => return refuse(&error.to_string()),
        }
    }
    print(&lines);
    ExitCode::from(exit_code(&lines))
}

/// The folder after `--dir`, else every folder that the repository carries.
fn folders(arguments: Vec<String>) -> Result<Vec<PathBuf>, String> {
    match arguments.as_slice() {
        [] => carried(),
        [flag, folder] if flag == "--dir" => Ok(vec![PathBuf::from(folder)]),
        [one] if one.starts_with("--dir=") => Ok(vec![PathBuf::from(&one["--dir=".len()..])]),
        _ => Err("usage: golden [--dir DIR]".to_owned()),
    }
}

fn carried() -> Result<Vec<PathBuf>, String> {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data");
    let unreadable = |error| format!("cannot read `{}`: {error}", data.display());
    let mut folders = Vec::new();
    for entry in data.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    if folders.is_empty() {
        Err(format!("no folder under `{}`", data.display()))
    } else {
        Ok(folders)
    }
}

fn print(lines: &[Line]) {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    for line in lines {
        println!("{}", line.render(width));
    }
    for line in lines.iter().filter(|line| line.status == Status::Fail) {
        for problem in &line.problems {
            eprintln!("{}: {problem}", line.name);
        }
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("golden: {message}");
    ExitCode::from(2)
}
