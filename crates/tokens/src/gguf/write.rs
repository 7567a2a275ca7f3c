//! Writing GGUF files.

use std::path::Path;

use super::header::{ALIGNMENT, Header};
use super::kind::GgmlType;
use super::value::ValueType;
use crate::error::{Error, Result};
use crate::file::write_atomic;

/// Gathers a GGUF file (version 3) in memory: for small models, and for tests.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    metadata: Vec<u8>,
    n_metadata: u64,
    infos: Vec<u8>,
    /// Bytes of each tensor.
    sizes: Vec<usize>,
    data: Vec<u8>,
}

impl Writer {
    /// A file without metadata and tensors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text.
    pub fn string(&mut self, key: &str, value: &str) -> &mut Self {
        self.entry(key, ValueType::String);
        push_string(&mut self.metadata, value);
        self
    }

    /// Adds a count, as 32 bits, which is what readers expect of all but file sizes.
    pub fn unsigned(&mut self, key: &str, value: u32) -> &mut Self {
        self.entry(key, ValueType::U32);
        self.metadata.extend(value.to_le_bytes());
        self
    }

    /// Adds a number, as 32 bits.
    pub fn float(&mut self, key: &str, value: f32) -> &mut Self {
        self.entry(key, ValueType::F32);
        self.metadata.extend(value.to_le_bytes());
        self
    }

    /// Adds a truth value.
    pub fn boolean(&mut self, key: &str, value: bool) -> &mut Self {
        self.entry(key, ValueType::Bool);
        self.metadata.push(value.into());
        self
    }

    /// Adds an array of texts.
    pub fn strings<T: AsRef<str>>(&mut self, key: &str, values: &[T]) -> &mut Self {
        self.array(key, ValueType::String, values.len());
        for value in values {
            push_string(&mut self.metadata, value.as_ref());
        }
        self
    }

    /// Adds an array of 32-bit integers.
    pub fn integers(&mut self, key: &str, values: &[i32]) -> &mut Self {
        self.array(key, ValueType::I32, values.len());
        self.metadata.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self
    }

    /// Adds an array of 32-bit floats.
    pub fn floats(&mut self, key: &str, values: &[f32]) -> &mut Self {
        self.array(key, ValueType::F32, values.len());
        self.metadata.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self
    }

    /// Adds a tensor: its shape in row-major order, and its blocks as [`Gguf::bytes`] gives them.
    ///
    /// [`Gguf::bytes`]: super::Gguf::bytes
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        kind: GgmlType,
        bytes: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT as usize), 0);
        push_string(&mut self.infos, name);
        self.infos.extend((shape.len() as u32).to_le_bytes());
        self.infos.extend(shape.iter().rev().flat_map(|&size| (size as u64).to_le_bytes()));
        self.infos.extend(kind.code().to_le_bytes());
        self.infos.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes.as_ref());
        self.sizes.push(bytes.as_ref().len());
        self
    }

    /// The file.
    ///
    /// # Errors
    /// [`Error::Gguf`] for what [`Gguf::open`](super::Gguf::open) would refuse: a key or tensor
    /// that is there twice, or bytes that are not as many as the shape says.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((self.sizes.len() as u64).to_le_bytes());
        bytes.extend(self.n_metadata.to_le_bytes());
        bytes.extend(&self.metadata);
        bytes.extend(&self.infos);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
        bytes.extend(&self.data);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0); // llama.cpp reads it
        let refused = |reason| Error::Gguf { name: "to be written".to_owned(), reason };
        let header = Header::parse(&bytes).map_err(refused)?;
        for (tensor, &n_bytes) in header.tensors.iter().zip(&self.sizes) {
            let (name, want) = (&tensor.name, tensor.range.len());
            if n_bytes != want {
                return Err(refused(format!("tensor `{name}`: {n_bytes} bytes, not {want}")));
            }
        }
        Ok(bytes)
    }

    /// Writes the file, all of it or, after a crash, none.
    ///
    /// # Errors
    /// As [`Writer::to_bytes`], and [`Error::Io`] if it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomic(path.as_ref(), &self.to_bytes()?)
    }

    fn entry(&mut self, key: &str, kind: ValueType) {
        push_string(&mut self.metadata, key);
        self.metadata.extend(kind.code().to_le_bytes());
        self.n_metadata += 1;
    }

    fn array(&mut self, key: &str, element: ValueType, len: usize) {
        self.entry(key, ValueType::Array);
        self.metadata.extend(element.code().to_le_bytes());
        self.metadata.extend((len as u64).to_le_bytes());
    }
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
