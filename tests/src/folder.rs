//! Which files a folder holds, and whose they are.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::arch;
use crate::report::{Line, Status};
use crate::scaling;

/// A folder that cannot be checked at all.
#[derive(Debug)]
pub enum FolderError {
    /// No such folder, or not readable.
    Unreadable(PathBuf, std::io::Error),
    /// The base name is not one of those that have a format.
    Unknown(PathBuf),
    /// No golden file in it.
    Empty(PathBuf),
}

impl fmt::Display for FolderError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(formatter, "cannot read `{}`: {error}", path.display())
            }
            Self::Unknown(path) => {
                let known = "arch, retrieval, prefopt, scaling, datagen";
                write!(formatter, "`{}` is not one of {known}", path.display())
            }
            Self::Empty(path) => write!(formatter, "no golden file in `{}`", path.display()),
        }
    }
}

impl std::error::Error for FolderError {}

/// Checks every golden file of a folder, in the order of their names.
///
/// # Errors
/// [`FolderError`] if the folder is not there, empty, or of no known name.
pub fn check_folder(folder: &Path) -> Result<Vec<Line>, FolderError> {
    let whole =
        folder.canonicalize().map_err(|error| FolderError::Unreadable(folder.into(), error))?;
    let files = files(&whole).map_err(|error| FolderError::Unreadable(folder.into(), error))?;
    let kind = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let lines = match kind {
        "arch" => check_arch(&whole, &files),
        "scaling" => scaling::check(&whole, &files),
        "retrieval" | "prefopt" | "datagen" => list(kind, &files),
        _ => return Err(FolderError::Unknown(folder.into())),
    };
    if lines.is_empty() { Err(FolderError::Empty(folder.into())) } else { Ok(lines) }
}

/// Names of the files directly in the folder, sorted.
fn files(folder: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.path().is_file() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Each `X.json` but the index; an `X.safetensors` on its own has lost its companion.
fn check_arch(folder: &Path, files: &BTreeSet<String>) -> Vec<Line> {
    let stem = |file: &String| {
        let stem = file.strip_suffix(".json").or_else(|| file.strip_suffix(".safetensors"));
        stem.filter(|stem| *stem != "index").map(str::to_owned)
    };
    let stems: BTreeSet<String> = files.iter().filter_map(stem).collect();
    let check = |stem: &String| {
        if files.contains(&format!("{stem}.json")) {
            return arch::check(folder, stem);
        }
        let problems =
            vec![format!("`{stem}.json`, which describes `{stem}.safetensors`, is missing")];
        Line { name: stem.clone(), status: Status::Fail, cases: 0, worst: None, problems }
    };
    stems.iter().map(check).collect()
}

/// The files of a format whose crate does not exist yet.
fn list(kind: &str, files: &BTreeSet<String>) -> Vec<Line> {
    let stems = files.iter().filter_map(|file| file.strip_suffix(".json"));
    let golden = stems.filter(|stem| !["index", "manifest", "MANIFEST"].contains(stem));
    golden.map(|stem| Line::not_implemented(stem, &format!("the crate `{kind}`"))).collect()
}
