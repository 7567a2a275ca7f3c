//! GGUF files: the weights, the vocabulary and the hyperparameters of a model in one file, as
//! llama.cpp and its relatives keep them.
//!
//! Versions 2 and 3, little-endian. The file is mapped, not read: opening one looks at its header
//! only, [`Gguf::bytes`] is a view of it, and [`Gguf::dequantize`] makes plain floats. Every length
//! in the header is compared with the file before anything is allocated, so that a damaged file is
//! an error that names what is wrong with it, and no more.
//!
//! Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Blocks of the quantised
//! types: `dequantize_row_*` in ggml's `ggml-quants.c`.
//!
//! ```
//! use forerun_tokens::gguf::{GgmlType, Gguf, Writer};
//!
//! let mut writer = Writer::new();
//! writer.string("general.architecture", "llama").unsigned("llama.block_count", 1);
//! let weights: Vec<u8> = [0.5_f32, -1.0].iter().flat_map(|w| w.to_le_bytes()).collect();
//! writer.tensor("output_norm.weight", &[2], GgmlType::F32, weights);
//!
//! let file = Gguf::from_bytes(writer.to_bytes()?, "example")?; // or `Gguf::open(path)`
//! assert_eq!(file.string("general.architecture")?, Some("llama"));
//! assert_eq!(file.dequantize("output_norm.weight")?, [0.5, -1.0]);
//! # Ok::<(), forerun_tokens::Error>(())
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result, ensure};
use crate::map::Map;

mod blocks;
mod codes;
mod cursor;
mod dequantize;
mod header;
mod kind;
mod value;
mod vocabulary;
mod write;

pub use codes::Codes;
pub use dequantize::dequantize;
use header::Header;
pub use kind::GgmlType;
pub use value::{Array, Value};
pub(crate) use vocabulary::Vocabulary;
pub use write::Writer;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    name: String,
    data: Data,
    header: Header,
    /// Index into the header's tensors.
    by_name: BTreeMap<String, usize>,
}

#[derive(Debug)]
enum Data {
    Map(Map),
    Bytes(Vec<u8>),
}

/// Where a tensor lies, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Its dimensions in row-major order, the contiguous one last: `[rows, columns]`, as in
    /// PyTorch. (The file has them the other way round.)
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub kind: GgmlType,
    /// Its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Number of values: the product of the dimensions.
    #[must_use]
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Gguf {
    /// Maps a file and checks its header. The weights are not read.
    ///
    /// # Errors
    /// [`Error::Gguf`] for what is no GGUF file, is cut off, or contradicts itself: it names the
    /// key or tensor. [`Error::Io`] if the file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(Error::io("open", path))?;
        let n_bytes = file.metadata().map_err(Error::io("open", path))?.len();
        let data = match n_bytes {
            0 => Data::Bytes(Vec::new()), // an empty file cannot be mapped
            _ => Data::Map(Map::new(&file).map_err(Error::io("map", path))?),
        };
        Self::new(data, path.display().to_string())
    }

    /// Reads a file that is in memory; `name` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Gguf`] as for [`Gguf::open`].
    pub fn from_bytes(bytes: impl Into<Vec<u8>>, name: &str) -> Result<Self> {
        Self::new(Data::Bytes(bytes.into()), name.to_owned())
    }

    fn new(data: Data, name: String) -> Result<Self> {
        let header = match Header::parse(data.bytes()) {
            Ok(header) => header,
            Err(reason) => return Err(Error::Gguf { name, reason }),
        };
        let names = header.tensors.iter().map(|tensor| tensor.name.clone());
        let by_name = names.zip(0..).collect();
        Ok(Self { name, data, header, by_name })
    }

    /// The file's path, or what the caller named it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Metadata keys in ascending order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.header.metadata.keys().map(String::as_str)
    }

    /// The value of a metadata key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.header.value(self.data.bytes(), key)
    }

    /// The tensors in the order of the file.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor called `name`, if there is one.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.header.tensors[index])
    }

    /// The bytes of a tensor as they lie in the file: blocks of its [`GgmlType`], row after row.
    ///
    /// # Errors
    /// [`Error::Gguf`] if there is no such tensor.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        self.info(name).map(|info| &self.data.bytes()[info.range.clone()])
    }

    /// The values of a tensor in row-major order, on all cores.
    ///
    /// # Errors
    /// [`Error::Gguf`] if there is no such tensor.
    pub fn dequantize(&self, name: &str) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.info(name)?.n_values()];
        self.dequantize_into(name, &mut values)?;
        Ok(values)
    }

    /// As [`Gguf::dequantize`], into memory of the caller.
    ///
    /// # Errors
    /// [`Error::Gguf`] if there is no such tensor; [`Error::Config`] if `out` is not as long as it.
    pub fn dequantize_into(&self, name: &str, out: &mut [f32]) -> Result<()> {
        let info = self.info(name)?;
        let n_values = info.n_values();
        ensure(out.len() == n_values, "out", format!("{n_values} long"), out.len())?;
        dequantize(info.kind, self.bytes(name)?, out)
    }

    /// A text of the metadata; none if there is no such key.
    ///
    /// # Errors
    /// [`Error::Gguf`] if its value is no text.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// A count of the metadata; none if there is no such key.
    ///
    /// # Errors
    /// [`Error::Gguf`] if its value is no integer, or negative.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an unsigned integer", |value| match value {
            Value::Unsigned(number) => Some(number),
            Value::Signed(number) => number.try_into().ok(),
            _ => None,
        })
    }

    /// A number of the metadata; none if there is no such key.
    ///
    /// # Errors
    /// [`Error::Gguf`] if its value is no number.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| match value {
            Value::Float(number) => Some(number),
            Value::Unsigned(number) => Some(number as f64),
            Value::Signed(number) => Some(number as f64),
            _ => None,
        })
    }

    /// A truth value of the metadata; none if there is no such key.
    ///
    /// # Errors
    /// [`Error::Gguf`] if its value is no boolean.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// The texts of an array; none if there is no such key.
    ///
    /// # Errors
    /// [`Error::Gguf`] if its value is no array of texts, or one of them is no UTF-8.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.array(key, "an array of strings", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// The integers of an array; none if there is no such key.
    ///
    /// # Errors
    /// [`Error::Gguf`] if its value is no array of integers, or one of them exceeds 63 bits.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.array(key, "an array of integers", |value| match value {
            Value::Unsigned(number) => number.try_into().ok(),
            Value::Signed(number) => Some(number),
            _ => None,
        })
    }

    /// The numbers of an array; none if there is no such key.
    ///
    /// # Errors
    /// [`Error::Gguf`] if its value is no array of numbers.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.array(key, "an array of numbers", |value| match value {
            Value::Float(number) => Some(number),
            Value::Unsigned(number) => Some(number as f64),
            Value::Signed(number) => Some(number as f64),
            _ => None,
        })
    }

    /// The error for a key that has to be there.
    #[must_use]
    pub fn missing(&self, key: &str) -> Error {
        self.error(format!("has no metadata `{key}`"))
    }

    pub(crate) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Gguf { name: self.name.clone(), reason: reason.into() }
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.tensor(name).ok_or_else(|| self.error(format!("has no tensor `{name}`")))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        want: &str,
        take: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.error(format!("metadata `{key}` is {}, not {want}", value.name()));
        take(value).map(Some).ok_or_else(wrong)
    }

    fn array<'a, T>(
        &'a self,
        key: &str,
        want: &str,
        take: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let take_array = |value| match value {
            Value::Array(array) => Some(array),
            _ => None,
        };
        let Some(array) = self.typed(key, want, take_array)? else { return Ok(None) };
        let wrong = |reason: String| self.error(format!("metadata `{key}`: {reason}"));
        let mut taken = Vec::with_capacity(array.len()); // no more than the file's bytes
        for (index, value) in array.values().enumerate() {
            let value = value.map_err(wrong)?;
            let not_wanted = || wrong(format!("element {index} is {}, not {want}", value.name()));
            taken.push(take(value).ok_or_else(not_wanted)?);
        }
        Ok(Some(taken))
    }
}

impl Data {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(map) => map.bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests;
