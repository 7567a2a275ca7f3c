//! A file mapped into memory, and tensors over parts of it.

#![expect(
    unsafe_code,
    reason = "a memory map and tensors over it; each block says why it is sound"
)]

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::slice;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::shim;

#[cfg(not(target_endian = "little"))]
compile_error!("safetensors files are little-endian, and mapped as they are");

/// The map, shared by the tensors over it. It is private and writable: libtorch has no read-only tensors, and
/// an in-place operation then changes this process's pages and not the file.
#[derive(Debug)]
pub(super) struct Map(Arc<MmapRaw>);

impl Map {
    pub(super) fn new(path: &Path, file: &File) -> Result<Self> {
        // SAFETY: nothing in Rust holds a reference into the map for longer than a call here, and bytes that
        // another process changes are numbers like any other. Cutting the file short is documented as fatal.
        let map = unsafe { MmapOptions::new().no_reserve_swap().map_copy(file) };
        Ok(Self(Arc::new(map.map_err(|source| Error::io(path, source))?.into())))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A tensor over `range`, which the header's check has found to lie in the file and to fit.
    pub(super) fn tensor(&self, range: &Range<usize>, shape: &[i64], kind: Kind) -> Result<Tensor> {
        if range.is_empty() {
            return Ok(Tensor::f_empty(shape, (kind, tch::Device::Cpu))?);
        }
        // SAFETY: `range` starts inside the map.
        let data = unsafe { self.0.as_mut_ptr().add(range.start) };
        if !data.addr().is_multiple_of(kind.elt_size_in_bytes()) {
            return Ok(Tensor::f_from_data_size(self.bytes(range), shape, kind)?);
        }
        // SAFETY: aligned; `range` holds exactly the elements of `shape`; the map lives as long as its owner.
        unsafe { shim::from_blob(data, shape, kind, Arc::clone(&self.0)) }
    }

    /// Whether every byte is a C++ `bool`; reading another one as such would be undefined.
    pub(super) fn is_bool(&self, range: &Range<usize>) -> bool {
        self.bytes(range).iter().all(|&byte| byte <= 1)
    }

    fn bytes(&self, range: &Range<usize>) -> &[u8] {
        let range = range.start.min(self.len())..range.end.min(self.len());
        // SAFETY: inside the map; the reference does not outlive the calls above, which do not write.
        unsafe { slice::from_raw_parts(self.0.as_ptr().add(range.start), range.len()) }
    }
}

/// The memory of a dense tensor on the CPU, row by row.
pub(super) fn with_bytes<T>(tensor: &Tensor, n_bytes: usize, read: impl FnOnce(&[u8]) -> T) -> T {
    if n_bytes == 0 {
        return read(&[]);
    }
    // SAFETY: the caller has made the tensor contiguous and worked out its size; the borrow keeps it alive.
    read(unsafe { slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), n_bytes) })
}
