//! Tensors in files: the safetensors format, <https://huggingface.co/docs/safetensors>.
//!
//! A file is the length of its header (u64, little endian), the header (JSON: a kind, a shape and a range of
//! bytes for each name, and a map of texts), and the numbers, little endian, without gaps. Files are untrusted:
//! everything that the header claims is checked against the file's size before it is used.

mod header;
mod map;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use crate::atomic::hex;
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::shim::GradMode;
use header::{Entry, Header};
use map::Map;

pub use write::{TensorPlan, save, save_streamed};

/// An open safetensors file: its header read and checked, its numbers mapped into memory and not yet read.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: Mutex<File>,
    header: Header,
    map: Map,
}

impl SafetensorsFile {
    /// Opens `path`. Whoever cuts the file short while it is mapped ends this process (SIGBUS); replacing it by
    /// renaming another over it, as [`save`] does, is harmless.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::File`] if its header is not sound, [`Error::Tensor`] names
    /// the first tensor whose entry is not.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|source| Error::io(path, source))?;
        let header = Header::read(path, &mut file)?;
        let map = Map::new(path, &file)?;
        if map.len() as u64 != header.file_len {
            return Err(Error::file(path, "the file changed its size while it was opened"));
        }
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), header, map })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.header.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.header.entries.contains_key(name)
    }

    /// The texts that were stored with the tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is none of that name.
    pub fn shape(&self, name: &str) -> Result<&[i64]> {
        Ok(&self.entry(name)?.shape)
    }

    /// The kind of a tensor.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is none of that name.
    pub fn kind(&self, name: &str) -> Result<Kind> {
        Ok(self.entry(name)?.kind)
    }

    /// A tensor on the CPU that reads from the mapped file as it is used, without a copy (unless the file has
    /// put it at an address that its kind cannot have). It stays valid when this struct is dropped. Writing
    /// into it in place does not change the file, but other tensors handed out for the same name.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is none of that name, or it is bool and holds other bytes than 0 and 1.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let entry = self.entry(name)?;
        if entry.kind == Kind::Bool && !self.map.is_bool(&entry.range) {
            return Err(Error::tensor(
                &self.path,
                name,
                "is bool but holds other bytes than 0 and 1",
            ));
        }
        self.map.tensor(&entry.range, &entry.shape, entry.kind)
    }

    /// SHA-256 of the whole file, lower-case hex; reads it from beginning to end.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn sha256(&self) -> Result<String> {
        // A poisoned lock means a panic between seek and read, and we seek again.
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        hash(&mut file).map_err(|source| Error::io(&self.path, source))
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        let entry = self.header.entries.get(name);
        entry.ok_or_else(|| Error::tensor(&self.path, name, "is missing"))
    }
}

/// Copies the tensors of `file` into `params`, which must have exactly the same names and shapes. Kinds may differ
/// between floating-point formats; the numbers are then converted.
///
/// # Errors
/// [`Error::Tensor`] names the first tensor that is missing, unexpected, of another shape, or not of a
/// floating-point kind. Nothing has been copied then.
pub fn load_into(file: &SafetensorsFile, params: &Parameters) -> Result<()> {
    let refused = |name: &str, reason: String| Err(Error::tensor(file.path(), name, reason));
    for parameter in params {
        let (name, want) = (&parameter.name, parameter.tensor.size());
        let got = file.shape(name)?;
        if got != want {
            return refused(name, format!("has shape {got:?}, the model's is {want:?}"));
        }
        let kind = file.kind(name)?;
        if !matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
            return refused(name, format!("has kind {kind:?}, which no parameter can have"));
        }
    }
    if let Some(extra) = file.names().find(|name| params.get(name).is_none()) {
        return refused(extra, "is unexpected: the model has no parameter of that name".to_owned());
    }
    let _no_graph = GradMode::set(false);
    for parameter in params {
        parameter.tensor.shallow_clone().f_copy_(&file.tensor(&parameter.name)?)?;
    }
    Ok(())
}

fn hash(file: &mut File) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests;
