//! Writing a safetensors file: streamed, and either there in full or not at all.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use super::header::{Planned, plan};
use super::{hex, map};
use crate::error::{Error, Result};

/// Hashed and written in pieces of this size, so that the hash finds its bytes in the cache.
const PIECE: usize = 1 << 20;

/// Writes `tensors` to `path`, and returns the SHA-256 of the file in lower-case hex.
///
/// One tensor at a time is brought to the CPU, and copied only if it is not there or not contiguous. The bytes
/// go to a temporary file beside `path`, which is flushed to disk and then renamed, so that `path` holds the old
/// file or the whole new one whenever the process ends. The layout is that of the reference implementation:
/// widest kinds first, then by name, the header padded to 8 bytes.
///
/// # Errors
/// [`Error::Tensor`] if a name occurs twice or is reserved or a kind cannot be stored; [`Error::Io`] from the
/// disk. `path` is untouched then.
pub fn save(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<String> {
    let mut described = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        if !tensor.defined() {
            return Err(Error::tensor(path, name, "is not defined"));
        }
        described.push((name.as_str(), tensor.f_kind()?, tensor.size()));
    }
    let (header, order) = plan(path, &described, metadata)?;
    let mut target = Target::create(path).map_err(|source| Error::io(path, source))?;
    target.write(&header).map_err(|source| Error::io(path, source))?;
    for Planned { index, n_bytes } in order {
        let dense = tensors[index].1.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        map::with_bytes(&dense, n_bytes, |bytes| target.write(bytes))
            .map_err(|source| Error::io(path, source))?;
    }
    target.commit(path).map_err(|source| Error::io(path, source))
}

/// A temporary file beside its target; removed on drop unless renamed.
struct Target {
    file: File,
    temporary: PathBuf,
    hasher: Sha256,
    renamed: bool,
}

impl Target {
    fn create(path: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let Some(file_name) = path.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
        };
        let mut name = OsString::from(".");
        name.push(file_name);
        name.push(format!(".{}-{}.tmp", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        Ok(Self { file, temporary, hasher: Sha256::new(), renamed: false })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.hasher.update(piece);
            self.file.write_all(piece)?;
        }
        Ok(())
    }

    fn commit(mut self, path: &Path) -> io::Result<String> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, path)?;
        self.renamed = true;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // The rename itself lasts only once the folder is on disk, too.
        #[cfg(unix)]
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(hex(std::mem::take(&mut self.hasher)))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
