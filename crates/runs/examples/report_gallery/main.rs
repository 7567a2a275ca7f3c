//! Writes a report with every kind of block and figure, from made-up data that says so, into the
//! folder given: `cargo run -p forerun-runs --example report_gallery -- FOLDER`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod gallery;

use std::path::PathBuf;
use std::{env, fs, process};

fn main() -> std::io::Result<()> {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: report_gallery FOLDER");
        process::exit(2);
    };
    let report = gallery::report();
    let (markdown, figures) = report.to_markdown_with_figures("figures");
    fs::create_dir_all(folder.join("figures"))?;
    fs::write(folder.join("report.html"), report.to_html())?;
    fs::write(folder.join("report.md"), markdown)?;
    for figure in figures {
        fs::write(folder.join("figures").join(figure.name), figure.content)?;
    }
    println!("{}", folder.join("report.html").display());
    Ok(())
}
