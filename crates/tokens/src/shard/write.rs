//! Writing a shard file as a stream.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Shards;
use super::header::{BLOCK_BYTES, HEADER_BYTES, Header, hash_blocks};
use crate::error::{Error, Result};
use crate::file::{folder_of, sync_folder};
use crate::hash::Hash;

/// Largest vocabulary whose ids fit 16 bits.
const MAX_U16_VOCAB: u32 = 1 << 16;

/// What a shard file says about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) tokenizer_hash: Hash,
    pub(crate) source_hash: Hash,
}

/// Writes documents to a temporary file and, at the end, renames it into place. Dropped before
/// that, it leaves nothing; killed, it leaves the temporary file, which the next writer of the same
/// path overwrites.
///
/// One writer at a time: [`build_or_reuse`](crate::build_or_reuse) holds a lock while it writes.
#[derive(Debug)]
pub struct ShardWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    header: Header,
    starts: Vec<u64>,
    block: Vec<u8>,
    blocks: Vec<Hash>,
    finished: bool,
}

impl ShardWriter {
    /// Begins a file of ids below `vocab_size`, each document of which ends with `end_of_document`,
    /// for `path`.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] for an `end_of_document` outside the vocabulary, [`Error::Io`] if
    /// the file cannot be written.
    pub fn create(path: impl AsRef<Path>, vocab_size: u32, end_of_document: u32) -> Result<Self> {
        let origin = Origin { tokenizer_hash: [0; 32], source_hash: [0; 32] };
        Self::begin(path.as_ref(), vocab_size, end_of_document, origin)
    }

    pub(crate) fn begin(
        path: &Path,
        vocab_size: u32,
        end_of_document: u32,
        origin: Origin,
    ) -> Result<Self> {
        let id_bytes = if vocab_size <= MAX_U16_VOCAB { 2 } else { 4 };
        let header = Header {
            id_bytes,
            n_tokens: 0,
            n_documents: 0,
            vocab_size,
            end_of_document,
            tokenizer_hash: origin.tokenizer_hash,
            source_hash: origin.source_hash,
            body_hash: [0; 32],
        };
        check_id(end_of_document, vocab_size, || "the end of a document".to_owned())?;
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        let temporary = PathBuf::from(name);
        let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
        // Zeros for now: no reader takes an unfinished file for a finished one.
        file.write_all(&[0; HEADER_BYTES]).map_err(Error::io("write", &temporary))?;
        let block = Vec::with_capacity(BLOCK_BYTES + 8);
        let (starts, blocks, path) = (vec![0], Vec::new(), path.to_owned());
        Ok(Self { path, temporary, file, header, starts, block, blocks, finished: false })
    }

    /// Appends a document, and its end.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] for an id outside the vocabulary, and then nothing is appended;
    /// [`Error::Io`] if the disk is full or fails.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        let (vocab_size, document) = (self.header.vocab_size, self.header.n_documents);
        // One comparison for all on the way that is always taken.
        if ids.iter().max().is_some_and(|&id| id >= vocab_size) {
            for (position, &id) in ids.iter().enumerate() {
                check_id(id, vocab_size, || format!("document {document}, position {position}"))?;
            }
        }
        match self.header.id_bytes {
            2 => self.append(ids, |id| (id as u16).to_le_bytes())?,
            _ => self.append(ids, |id| id.to_le_bytes())?,
        }
        self.end_document(ids.len())
    }

    /// Appends the bytes of a text as ids, and the end of the document; for vocabularies that hold
    /// all bytes.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match self.header.id_bytes {
            2 => self.append(bytes, |byte| [byte, 0])?,
            _ => self.append(bytes, |byte| [byte, 0, 0, 0])?,
        }
        self.end_document(bytes.len())
    }

    /// Writes what is left, flushes it to the disk, renames the file and opens it.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no document; [`Error::Io`] if the file cannot be written.
    pub fn finish(mut self) -> Result<Shards> {
        crate::error::ensure(self.header.n_documents > 0, "documents", "at least one", "none")?;
        let n_padding = self.header.token_bytes().next_multiple_of(8) - self.header.token_bytes();
        self.append(&[0; 8][..n_padding as usize], |zero| [zero])?;
        let starts = std::mem::take(&mut self.starts);
        self.append(&starts, u64::to_le_bytes)?;
        self.flush_block()?;
        self.header.body_hash = hash_blocks(&self.blocks);
        self.seal().map_err(Error::io("write", &self.path))?;
        self.finished = true;
        sync_folder(folder_of(&self.path));
        Shards::open(&self.path)
    }

    fn seal(&mut self) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&self.header.encode())?;
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)
    }

    fn end_document(&mut self, n_ids: usize) -> Result<()> {
        let end = self.header.end_of_document;
        match self.header.id_bytes {
            2 => self.append(&[end as u16], u16::to_le_bytes)?,
            _ => self.append(&[end], u32::to_le_bytes)?,
        }
        self.header.n_tokens += n_ids as u64 + 1;
        self.header.n_documents += 1;
        self.starts.push(self.header.n_tokens);
        Ok(())
    }

    /// Appends `values` in their stored form, a block at a time.
    fn append<T: Copy, const N: usize>(
        &mut self,
        mut values: &[T],
        encode: impl Fn(T) -> [u8; N],
    ) -> Result<()> {
        while !values.is_empty() {
            let n_free = (BLOCK_BYTES - self.block.len()) / N;
            let (now, later) = values.split_at(n_free.min(values.len()));
            let start = self.block.len();
            self.block.resize(start + now.len() * N, 0);
            let (slots, _) = self.block[start..].as_chunks_mut::<N>();
            for (slot, &value) in slots.iter_mut().zip(now) {
                *slot = encode(value);
            }
            if self.block.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
            values = later;
        }
        Ok(())
    }

    fn flush_block(&mut self) -> Result<()> {
        if !self.block.is_empty() {
            self.blocks.push(Sha256::digest(&self.block).into());
            self.file.write_all(&self.block).map_err(Error::io("write", &self.path))?;
            self.block.clear();
        }
        Ok(())
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_file(&self.temporary)
        {
            tracing::debug!(path = %self.temporary.display(), %error, "not removed");
        }
    }
}

fn check_id(id: u32, vocab_size: u32, place: impl FnOnce() -> String) -> Result<()> {
    if id < vocab_size {
        return Ok(());
    }
    Err(Error::TokenOutOfRange { id, place: place(), vocab_size })
}
