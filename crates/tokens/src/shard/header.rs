//! The first 256 bytes of a shard file, and the checksum of the rest.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::hash::{Hash, hash_parts};

pub(crate) const HEADER_BYTES: usize = 256;
/// Bytes that are hashed together.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
const MAGIC: [u8; 8] = *b"4RUNTOKS";
/// Raised when the layout, or the meaning of a field, changes.
pub(crate) const VERSION: u32 = 1;
/// Where the hash of all fields before it stands.
const CHECKSUM_AT: usize = HEADER_BYTES - 32;

/// The fields, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// 2 or 4.
    pub(crate) id_bytes: u32,
    pub(crate) n_tokens: u64,
    pub(crate) n_documents: u64,
    pub(crate) vocab_size: u32,
    pub(crate) end_of_document: u32,
    pub(crate) tokenizer_hash: Hash,
    pub(crate) source_hash: Hash,
    pub(crate) body_hash: Hash,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let fields = [
            MAGIC.as_slice(),
            &VERSION.to_le_bytes(),
            &self.id_bytes.to_le_bytes(),
            &self.n_tokens.to_le_bytes(),
            &self.n_documents.to_le_bytes(),
            &self.vocab_size.to_le_bytes(),
            &self.end_of_document.to_le_bytes(),
            &self.tokenizer_hash,
            &self.source_hash,
            &self.body_hash,
        ]
        .concat();
        let mut bytes = [0; HEADER_BYTES];
        bytes[..fields.len()].copy_from_slice(&fields);
        let checksum = hash_parts([&bytes[..CHECKSUM_AT]]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum);
        bytes
    }

    /// Reads the header at the front of `bytes`, or says why there is none.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(bytes);
        if fields.take::<8>()? != MAGIC {
            return Err("is no file of token shards".to_owned());
        }
        let version = fields.u32()?;
        if version != VERSION {
            return Err(format!("has version {version}, not {VERSION}; build it again"));
        }
        let checksum = hash_parts(bytes.get(..CHECKSUM_AT));
        if bytes.get(CHECKSUM_AT..HEADER_BYTES) != Some(&checksum) {
            return Err(
                "is damaged: the header's checksum does not match; remove it and build it again"
                    .to_owned(),
            );
        }
        let header = Self {
            id_bytes: fields.u32()?,
            n_tokens: fields.u64()?,
            n_documents: fields.u64()?,
            vocab_size: fields.u32()?,
            end_of_document: fields.u32()?,
            tokenizer_hash: fields.take()?,
            source_hash: fields.take()?,
            body_hash: fields.take()?,
        };
        match header.id_bytes {
            2 | 4 => Ok(header),
            other => Err(format!("stores ids in {other} bytes, which no version does")),
        }
    }

    /// Bytes of the ids.
    pub(crate) fn token_bytes(&self) -> u64 {
        self.n_tokens.saturating_mul(self.id_bytes.into())
    }

    /// Bytes of the file, unless that is more than any file can have.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        let ids = self.n_tokens.checked_mul(self.id_bytes.into())?.checked_next_multiple_of(8)?;
        let index = self.n_documents.checked_add(1)?.checked_mul(8)?;
        ids.checked_add(index)?.checked_add(HEADER_BYTES as u64)
    }

    /// A hash of the whole content.
    pub(crate) fn hash(&self) -> Hash {
        hash_parts([self.encode().as_slice()])
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (field, rest) = self.0.split_first_chunk().ok_or("the header is cut off")?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.take().map(u64::from_le_bytes)
    }
}

/// The checksum of everything behind the header: the hash of the hashes of its blocks.
pub(crate) fn hash_body(body: &[u8]) -> Hash {
    let blocks: Vec<Hash> =
        body.par_chunks(BLOCK_BYTES).map(|block| Sha256::digest(block).into()).collect();
    hash_blocks(&blocks)
}

pub(crate) fn hash_blocks(blocks: &[Hash]) -> Hash {
    hash_parts(blocks.iter().map(Hash::as_slice))
}
