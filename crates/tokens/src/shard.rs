//! Token shards: the ids of many documents in one memory-mapped file.
//!
//! The file is little-endian throughout: a header of 256 bytes (`header.rs`), the ids of all
//! documents one after the other, each document ended by the end-of-document id, as u16 where the
//! vocabulary fits and as u32 elsewhere, zeros up to a multiple of 8, and for each document the
//! index of its first id, then the number of ids, as u64. SHA-256 protects the header and, in
//! blocks of 1 MiB so that all cores can check, the rest.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::hash::hex;
use crate::map::Map;

mod header;
mod write;

use header::{HEADER_BYTES, Header};
pub(crate) use write::Origin;
pub use write::ShardWriter;

/// Token ids of documents, memory-mapped and checked.
#[derive(Debug)]
pub struct Shards {
    path: PathBuf,
    header: Header,
    map: Map,
}

/// Token ids in the width in which they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens<'a> {
    /// Of a vocabulary with at most 65,536 ids.
    U16(&'a [u16]),
    /// Of a larger one.
    U32(&'a [u32]),
}

impl Shards {
    /// Opens a file that [`ShardWriter`] has finished, and reads all of it once to check it.
    ///
    /// # Errors
    /// [`Error::Shards`] for a file of another kind or version, one that is cut off, or one in
    /// which any bit has changed; [`Error::TokenOutOfRange`] for an id outside the vocabulary;
    /// [`Error::Io`] if it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if cfg!(target_endian = "big") {
            return Err(Error::shards(path, "this machine is big-endian, which is not supported"));
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        let n_bytes = file.metadata().map_err(Error::io("open", path))?.len();
        if n_bytes < HEADER_BYTES as u64 {
            let reason =
                format!("is cut off: {n_bytes} bytes, less than the header; build it again");
            return Err(Error::shards(path, reason));
        }
        let map = Map::new(&file).map_err(Error::io("map", path))?;
        let header = Header::decode(map.bytes()).map_err(|reason| Error::shards(path, reason))?;
        let expected = header.file_bytes();
        if expected != Some(n_bytes) {
            let expected = expected.map_or("an impossible number".to_owned(), |n| n.to_string());
            let reason = format!(
                "holds {n_bytes} bytes where its header announces {expected}: it is cut off or damaged; build it again"
            );
            return Err(Error::shards(path, reason));
        }
        let shards = Self { path: path.to_owned(), header, map };
        shards.check()?;
        Ok(shards)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ids in all, ends of documents included.
    #[must_use]
    pub fn n_tokens(&self) -> u64 {
        self.header.n_tokens
    }

    /// Documents.
    #[must_use]
    pub fn n_documents(&self) -> usize {
        self.header.n_documents as usize
    }

    /// Ids are below this.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.header.vocab_size
    }

    /// The id that ends each document.
    #[must_use]
    pub fn end_of_document(&self) -> u32 {
        self.header.end_of_document
    }

    /// [`Tokenizer::hash`](crate::Tokenizer::hash) of the tokenizer that made the ids.
    #[must_use]
    pub fn tokenizer_hash(&self) -> String {
        hex(&self.header.tokenizer_hash)
    }

    /// [`TextSource::hash`](crate::TextSource::hash) of the text.
    #[must_use]
    pub fn source_hash(&self) -> String {
        hex(&self.header.source_hash)
    }

    /// SHA-256, in hex, of ids and documents and of what they were made from.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(&self.header.hash())
    }

    /// The ids of a document, its end included.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such document.
    pub fn document(&self, index: usize) -> Result<Tokens<'_>> {
        let range = self.range(index)?;
        Ok(self.slice(range))
    }

    /// Whether these are the shards that `origin` describes.
    pub(crate) fn is_of(&self, origin: &Origin) -> bool {
        let header = &self.header;
        (header.tokenizer_hash, header.source_hash) == (origin.tokenizer_hash, origin.source_hash)
    }

    /// Where a document's ids, its end included, lie among all ids.
    pub(crate) fn range(&self, index: usize) -> Result<Range<u64>> {
        match (self.starts().get(index), self.starts().get(index.saturating_add(1))) {
            (Some(&start), Some(&end)) => Ok(start..end),
            _ => Err(Error::Config {
                field: "document",
                want: format!("below {}", self.n_documents()),
                got: index.to_string(),
            }),
        }
    }

    /// The ids in `range`, which lies below [`Shards::n_tokens`].
    pub(crate) fn slice(&self, range: Range<u64>) -> Tokens<'_> {
        self.tokens().slice(range.start as usize..range.end as usize)
    }

    fn tokens(&self) -> Tokens<'_> {
        let body = &self.map.bytes()[HEADER_BYTES..];
        let ids = &body[..self.header.token_bytes() as usize];
        match self.header.id_bytes {
            2 => Tokens::U16(bytemuck::cast_slice(ids)),
            _ => Tokens::U32(bytemuck::cast_slice(ids)),
        }
    }

    /// The first id of each document, then the number of ids.
    fn starts(&self) -> &[u64] {
        let bytes = self.map.bytes();
        bytemuck::cast_slice(&bytes[bytes.len() - 8 * (self.n_documents() + 1)..])
    }

    fn check(&self) -> Result<()> {
        let damaged = |what: &str| {
            Error::shards(&self.path, format!("is damaged: {what}; remove it and build it again"))
        };
        if header::hash_body(&self.map.bytes()[HEADER_BYTES..]) != self.header.body_hash {
            return Err(damaged("its checksum does not match"));
        }
        let starts = self.starts();
        let rising = starts.windows(2).all(|pair| pair[0] < pair[1]);
        if starts.first() != Some(&0) || starts.last() != Some(&self.n_tokens()) || !rising {
            return Err(damaged("its documents do not follow one another"));
        }
        let (tokens, end) = (self.tokens(), self.header.end_of_document);
        let ended = |&next: &u64| tokens.get(next as usize - 1) == Some(end);
        if !starts[1..].par_iter().all(ended) {
            return Err(damaged("a document has no end"));
        }
        match tokens.max() {
            Some(id) if id >= self.vocab_size() => Err(Error::TokenOutOfRange {
                id,
                place: format!("`{}`", self.path.display()),
                vocab_size: self.vocab_size(),
            }),
            _ => Ok(()),
        }
    }
}

impl<'a> Tokens<'a> {
    /// Ids.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::U16(ids) => ids.len(),
            Self::U32(ids) => ids.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The id at `index`.
    #[must_use]
    pub fn get(self, index: usize) -> Option<u32> {
        match self {
            Self::U16(ids) => ids.get(index).map(|&id| id.into()),
            Self::U32(ids) => ids.get(index).copied(),
        }
    }

    /// The ids, one after the other.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + 'a {
        (0..self.len()).map(move |index| self.get(index).unwrap_or_default())
    }

    /// A copy, as [`Tokenizer::decode`](crate::Tokenizer::decode) takes it.
    #[must_use]
    pub fn to_vec(self) -> Vec<u32> {
        match self {
            Self::U16(ids) => ids.iter().map(|&id| id.into()).collect(),
            Self::U32(ids) => ids.to_vec(),
        }
    }

    /// Appends the ids to a row.
    pub(crate) fn extend_row(self, row: &mut Vec<i64>) {
        match self {
            Self::U16(ids) => row.extend(ids.iter().map(|&id| i64::from(id))),
            Self::U32(ids) => row.extend(ids.iter().map(|&id| i64::from(id))),
        }
    }

    fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::U16(ids) => Self::U16(&ids[range]),
            Self::U32(ids) => Self::U32(&ids[range]),
        }
    }

    fn max(self) -> Option<u32> {
        match self {
            Self::U16(ids) => ids.par_iter().max().map(|&id| id.into()),
            Self::U32(ids) => ids.par_iter().max().copied(),
        }
    }
}

#[cfg(test)]
mod tests;
