//! Token shards that are built once and found again by what they were made of.

use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::documents::{Document, Documents};
use crate::error::{Error, Result};
use crate::hash::{hash_parts, hex};
use crate::shard::{Origin, ShardWriter, Shards};
use crate::source::TextSource;
use crate::tokenizer::{Kind, Tokenizer};

/// Raised when the same source and tokenizer come to give other ids.
const BUILD_VERSION: u32 = 1;
/// Text that is encoded at once, on all cores.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_DOCUMENTS: usize = 4096;

/// Opens the shards of `source` in `cache_dir`, or builds them first. Their file is named after a
/// hash of the texts' bytes and of the tokenizer, so that a changed text or tokenizer gives other
/// shards, and a moved text the same.
///
/// Safe with several processes and after a crash: builders of the same shards wait for one another,
/// a half-written file is never taken for a whole one, and a damaged one is logged (`warn`) and
/// built again.
///
/// # Errors
/// What [`documents`](crate::documents()) reports, [`Error::Tokenizer`] if the tokenizer fails on a
/// text or has no end of a document, [`Error::Io`] if the cache cannot be written. Shards that were
/// there before stay.
pub fn build_or_reuse(
    cache_dir: &Path,
    source: &TextSource,
    tokenizer: &Tokenizer,
) -> Result<Shards> {
    let end = tokenizer.end_of_document().ok_or_else(|| {
        let reason = "has no token that ends a document; name one with `with_end_of_document`";
        Error::tokenizer(tokenizer.name(), reason)
    })?;
    let inputs = Inputs::look_at(source)?;
    let origin = Origin {
        tokenizer_hash: tokenizer.hash_bytes(),
        source_hash: source.hash_files(&inputs.files)?,
    };
    let version = BUILD_VERSION.to_le_bytes();
    let key = hash_parts([&version, origin.tokenizer_hash.as_slice(), &origin.source_hash]);
    let path = cache_dir.join(format!("{}.tokens", hex(&key[..16])));
    if let Some(shards) = reuse(&path, &origin)? {
        return Ok(shards);
    }

    fs::create_dir_all(cache_dir).map_err(Error::io("create", cache_dir))?;
    let _lock = lock(&path.with_extension("lock"))?;
    if let Some(shards) = reuse(&path, &origin)? {
        return Ok(shards);
    }
    tracing::debug!(path = %path.display(), "building token shards");
    let mut writer = ShardWriter::begin(&path, tokenizer.vocab_size(), end, origin)?;
    write_documents(&mut writer, Documents::of_files(source, inputs.files.clone()), tokenizer)?;
    inputs.check_unchanged()?;
    writer.finish()
}

/// The shards at `path`, if they are there and whole.
fn reuse(path: &Path, origin: &Origin) -> Result<Option<Shards>> {
    if !path.try_exists().map_err(Error::io("look for", path))? {
        return Ok(None);
    }
    match Shards::open(path) {
        Ok(shards) if shards.is_of(origin) => Ok(Some(shards)),
        Ok(_) => {
            tracing::warn!(path = %path.display(), "shards of another source; building them again");
            Ok(None)
        }
        Err(error @ (Error::Shards { .. } | Error::TokenOutOfRange { .. })) => {
            tracing::warn!(%error, "building token shards again");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Waits for the exclusive lock on the file at `path`; the operating system frees it when its
/// holder ends, however.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    file.lock().map_err(Error::io("lock", path))?;
    Ok(file)
}

fn write_documents(
    writer: &mut ShardWriter,
    documents: Documents,
    tokenizer: &Tokenizer,
) -> Result<()> {
    let (mut batch, mut n_bytes) = (Vec::new(), 0);
    for document in documents {
        let document = document?;
        if let Kind::Bytes = tokenizer.kind() {
            writer.push_bytes(document.text.as_bytes())?;
            continue;
        }
        n_bytes += document.text.len();
        batch.push(document);
        if n_bytes >= BATCH_BYTES || batch.len() >= BATCH_DOCUMENTS {
            write_batch(writer, &batch, tokenizer)?;
            batch.clear();
            n_bytes = 0;
        }
    }
    write_batch(writer, &batch, tokenizer)
}

fn write_batch(writer: &mut ShardWriter, batch: &[Document], tokenizer: &Tokenizer) -> Result<()> {
    for (document, ids) in batch.iter().zip(tokenizer.encode_each(batch)) {
        let ids = ids.map_err(|error| {
            let remedy = "remove the document, or use a tokenizer that knows its characters";
            Error::input(&document.file, document.row, error.to_string(), remedy)
        })?;
        writer.push(&ids)?;
    }
    Ok(())
}

/// The files of a source as they were before they were read.
struct Inputs {
    files: Vec<PathBuf>,
    states: Vec<(u64, Option<SystemTime>)>,
}

impl Inputs {
    fn look_at(source: &TextSource) -> Result<Self> {
        let files = source.files()?;
        let states = files.iter().map(|file| state(file)).collect::<Result<_>>()?;
        Ok(Self { files, states })
    }

    /// Refuses files that changed between hashing and reading: the shards would bear the wrong
    /// name.
    fn check_unchanged(&self) -> Result<()> {
        for (file, before) in self.files.iter().zip(&self.states) {
            if state(file)? != *before {
                let remedy = "start again when nothing writes to it any more";
                return Err(Error::input(file, None, "the file changed while it was read", remedy));
            }
        }
        Ok(())
    }
}

fn state(file: &Path) -> Result<(u64, Option<SystemTime>)> {
    let metadata: Metadata = fs::metadata(file).map_err(Error::io("open", file))?;
    Ok((metadata.len(), metadata.modified().ok()))
}

#[cfg(test)]
mod tests;
