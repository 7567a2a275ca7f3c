//! Writing a safetensors file: streamed, and either there in full or not at all.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::header::{Planned, plan};
use super::map;
use crate::atomic::{AtomicFile, hex};
use crate::error::{Error, Result};

/// Hashed and written in pieces of this size, so that the hash finds its bytes in the cache.
const PIECE: usize = 1 << 20;

/// A tensor that is to be written and need not be there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// Unique in its file.
    pub name: String,
    /// The kind of its numbers.
    pub kind: Kind,
    /// Its shape.
    pub shape: Vec<i64>,
}

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
    let mut plans = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        if !tensor.defined() {
            return Err(Error::tensor(path, name, "is not defined"));
        }
        plans.push(TensorPlan { name: name.clone(), kind: tensor.f_kind()?, shape: tensor.size() });
    }
    save_streamed(path, &plans, metadata, |index| Ok(tensors[index].1.shallow_clone()))
}

/// As [`save`], of tensors that `make` gives when their turn comes, each once, by their place in `plans`: they need not be in memory
/// together.
///
/// # Errors
/// As [`save`]; [`Error::Tensor`] if a tensor is not as planned; and what `make` fails with.
pub fn save_streamed<E: From<Error>>(
    path: &Path,
    plans: &[TensorPlan],
    metadata: &BTreeMap<String, String>,
    mut make: impl FnMut(usize) -> Result<Tensor, E>,
) -> Result<String, E> {
    let io = |source| Error::io(path, source);
    let described: Vec<_> =
        plans.iter().map(|plan| (plan.name.as_str(), plan.kind, plan.shape.clone())).collect();
    let (header, order) = plan(path, &described, metadata)?;
    let mut target = Target::create(path).map_err(io)?;
    target.write(&header).map_err(io)?;
    for Planned { index, n_bytes } in order {
        let dense = dense(path, &plans[index], &make(index)?)?;
        map::with_bytes(&dense, n_bytes, |bytes| target.write(bytes)).map_err(io)?;
    }
    Ok(target.commit().map_err(io)?)
}

/// `tensor` on the CPU, row by row, if it is what was planned.
fn dense(path: &Path, plan: &TensorPlan, tensor: &Tensor) -> Result<Tensor> {
    let (kind, shape) = (tensor.f_kind()?, tensor.size());
    if kind != plan.kind || shape != plan.shape {
        let reason = format!("is {kind:?} {shape:?}, planned was {:?} {:?}", plan.kind, plan.shape);
        return Err(Error::tensor(path, &plan.name, reason));
    }
    Ok(tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?)
}

/// The file under way and the hash of what it holds so far.
struct Target {
    file: AtomicFile,
    hasher: Sha256,
}

impl Target {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: AtomicFile::create(path)?, hasher: Sha256::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.hasher.update(piece);
            self.file.write(piece)?;
        }
        Ok(())
    }

    fn commit(self) -> io::Result<String> {
        self.file.commit()?;
        Ok(hex(&self.hasher.finalize()))
    }
}
