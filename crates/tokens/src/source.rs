//! Which texts to read: files or patterns, a column, and a filter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::Format;
use crate::hash::{Hash, hash_file, hash_parts, hex};

/// Texts in Parquet, JSONL or plain-text files.
///
/// The end of a file's name says what it holds: `.parquet`; `.jsonl` or `.ndjson`, one object a
/// line; `.txt`, `.text` or `.md`, one document a file. The last five may be followed by `.gz` or
/// `.zst`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSource {
    /// Files, or patterns such as `data/**/*.parquet`. A pattern's files come in the order of their
    /// names, a file that is named twice comes once.
    pub paths: Vec<String>,
    /// The column (Parquet) or key (JSONL) that holds the text. Without it: `text`, `content` or
    /// `document`, else the only one that holds strings.
    #[serde(default)]
    pub column: Option<String>,
    /// Keeps the documents whose columns all have these values, as in `split = "train"`.
    #[serde(default)]
    pub filter: BTreeMap<String, String>,
}

impl TextSource {
    /// All documents of one file or pattern, in the column that is found.
    pub fn new(path: impl Into<String>) -> Self {
        Self { paths: vec![path.into()], ..Self::default() }
    }

    /// The files, in the order in which they are read.
    ///
    /// # Errors
    /// [`Error::Input`] for no path at all, a pattern that is none or matches nothing, a folder, or
    /// a name whose end says nothing; [`Error::Io`] for a file or folder that cannot be looked at.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        if self.paths.is_empty() {
            let remedy = "name a file or a pattern";
            return Err(Error::input(Path::new(""), None, "no input is named", remedy));
        }
        let mut files = Vec::new();
        let mut seen = BTreeSet::new();
        for path in &self.paths {
            for file in expand(path)? {
                Format::of(&file)?;
                if seen.insert(fs::canonicalize(&file).map_err(Error::io("find", &file))?) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }

    /// SHA-256, in hex, of what the source holds: the files' bytes, column and filter, but not
    /// where the files lie.
    ///
    /// # Errors
    /// As [`TextSource::files`], and [`Error::Io`] for a file that cannot be read.
    pub fn hash(&self) -> Result<String> {
        Ok(hex(&self.hash_files(&self.files()?)?))
    }

    pub(crate) fn hash_files(&self, files: &[PathBuf]) -> Result<Hash> {
        let mut parts = vec![b"forerun text source 1".to_vec()];
        parts.push(serde_json::to_vec(&(&self.column, &self.filter)).unwrap_or_default());
        for file in files {
            let (hash, n_bytes) = hash_file(file)?;
            if n_bytes == 0 {
                return Err(empty(file));
            }
            parts.push(Format::of(file)?.name().as_bytes().to_vec());
            parts.push(hash.to_vec());
        }
        Ok(hash_parts(parts.iter().map(Vec::as_slice)))
    }
}

/// The error for a file without a byte.
pub(crate) fn empty(file: &Path) -> Error {
    Error::input(file, None, "the file is empty", "remove it from the input or write it again")
}

fn expand(path: &str) -> Result<Vec<PathBuf>> {
    let literal = Path::new(path);
    if literal.is_dir() {
        let remedy = format!("name the files in it, such as `{}/*.parquet`", literal.display());
        return Err(Error::input(literal, None, "is a folder", remedy));
    }
    if literal.exists() || !path.contains(['*', '?', '[']) {
        fs::metadata(literal).map_err(Error::io("open", literal))?;
        return Ok(vec![literal.to_owned()]);
    }
    let found = glob::glob(path).map_err(|error| {
        let remedy = "see the rules of the `glob` crate, or name the files one by one";
        Error::input(literal, None, format!("is no pattern: {error}"), remedy)
    })?;
    let mut files = Vec::new();
    for entry in found {
        let file = entry.map_err(|error| {
            let path = error.path().to_owned();
            Error::io("look into", &path)(error.into())
        })?;
        if file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        let remedy = "check the pattern and the folder it starts from";
        return Err(Error::input(literal, None, "no file matches the pattern", remedy));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
