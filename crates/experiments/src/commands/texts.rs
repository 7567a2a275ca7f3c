//! Texts that commands read: files of the user, or the embedded books.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use forerun_tokens::{TextSource, documents};

use crate::data::{self, utf8};

/// A text with what a person calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The documents of `files` (plain text, JSONL, Parquet), each a text of its own.
pub(crate) fn of_files(files: &[PathBuf]) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    for file in files {
        let before = texts.len();
        let found: Vec<String> = documents(&TextSource::new(utf8(file)?))?
            .map(|document| Ok(document?.text))
            .collect::<Result<_>>()?;
        let numbered = found.len() > 1;
        for (index, text) in found.into_iter().enumerate() {
            let name = file.display().to_string();
            let name = if numbered { format!("{name} #{}", index + 1) } else { name };
            texts.push(Text { name, text });
        }
        ensure!(texts.len() > before, "`{}` holds no text", file.display());
    }
    Ok(texts)
}

/// The embedded books of a split, `train` or `validation`, or all of them.
pub(crate) fn books(split: Option<&str>) -> Result<Vec<Text>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = data::write_embedded("english", folder.path())?;
    let filter: BTreeMap<String, String> =
        split.map(|split| ("split".to_owned(), split.to_owned())).into_iter().collect();
    let column = |name: &str| -> Result<Vec<String>> {
        let (column, filter) = (Some(name.to_owned()), filter.clone());
        let source = TextSource { paths: vec![utf8(&path)?], column, filter };
        documents(&source)?.map(|document| Ok(document?.text)).collect()
    };
    let pairs = column("title")?.into_iter().zip(column("text")?);
    Ok(pairs.map(|(name, text)| Text { name, text }).collect())
}
