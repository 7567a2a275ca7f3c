//! Packed matrices in safetensors files.
//!
//! A packed matrix is a u8 tensor under its weight's own name. Which tensors are packed, in which format, and of which size they
//! were, stands in the file's metadata, as JSON under `forerun.packed`.

use std::collections::BTreeMap;
use std::path::Path;

use forerun_tensors::kernels::{PackedMatrix, WeightFormat};
use forerun_tensors::{Error, Result, SafetensorsFile};
use serde::{Deserialize, Serialize};

/// Key of the metadata.
const KEY: &str = "forerun.packed";

/// What a file says of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedTensor {
    /// How its weights are stored.
    pub format: WeightFormat,
    /// `[out, in]`.
    pub size: [i64; 2],
}

impl PackedTensor {
    /// The matrix that `file` holds as `name`; it stays in the mapped file.
    ///
    /// # Errors
    /// [`Error::Tensor`] if it is not there, or its bytes do not fit this format and size.
    pub fn read(&self, file: &SafetensorsFile, name: &str) -> Result<PackedMatrix> {
        let &Self { format, size: [out, columns] } = self;
        let matrix = PackedMatrix::from_data(file.tensor(name)?, format, out, columns);
        matrix.map_err(|error| Error::Tensor {
            path: file.path().to_owned(),
            name: name.to_owned(),
            reason: format!("is no {format} matrix of [{out}, {columns}]: {error}"),
        })
    }
}

/// Which tensors of `file` are packed, by name; none, if it does not say.
///
/// # Errors
/// [`Error::File`] if what it says cannot be understood, [`Error::Tensor`] names a tensor that is not there.
pub fn packed_tensors(file: &SafetensorsFile) -> Result<BTreeMap<String, PackedTensor>> {
    let Some(text) = file.metadata().get(KEY) else { return Ok(BTreeMap::new()) };
    let packed = parse(file.path(), text)?;
    for name in packed.keys() {
        file.kind(name)?;
    }
    Ok(packed)
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, PackedTensor>> {
    serde_json::from_str(text).map_err(|error| Error::File {
        path: path.to_owned(),
        reason: format!("its metadata `{KEY}` cannot be read: {error}"),
    })
}

/// The metadata of a file with these packed matrices, which were made by `method`.
///
/// # Errors
/// None today; a [`Result`] because JSON may fail.
pub fn packed_metadata(
    packed: &BTreeMap<String, PackedTensor>,
    method: &str,
) -> Result<BTreeMap<String, String>> {
    let text = serde_json::to_string(packed).map_err(|error| Error::Foreign(error.to_string()))?;
    let entries = [("format", "pt"), (KEY, &text), ("forerun.method", method)];
    Ok(entries.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
}

#[cfg(test)]
mod tests;
