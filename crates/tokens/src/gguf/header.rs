//! The header of a GGUF file: metadata, then where each tensor lies.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::TensorInfo;
use super::cursor::{Cursor, Reason};
use super::kind::GgmlType;
use super::value::{Value, ValueType};

const MAGIC: &[u8; 4] = b"GGUF";

/// Where tensors begin, unless the metadata say otherwise: at multiples of so many bytes.
pub(super) const ALIGNMENT: u64 = 32;
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// ggml's largest number of dimensions.
const MAX_DIMENSIONS: u32 = 4;
/// The longest name of a key that the format allows, bytes; we hold tensors to it as well.
const MAX_NAME_BYTES: usize = 65_535;

/// A checked header.
#[derive(Debug)]
pub(super) struct Header {
    /// The type of each value, and where it begins in the file.
    pub(super) metadata: BTreeMap<String, (ValueType, usize)>,
    pub(super) tensors: Vec<TensorInfo>,
}

impl Header {
    /// Checks everything but the weights.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let mut cursor = Cursor::new(bytes);
        check_magic(&mut cursor)?;
        let n_tensors = cursor.u64().map_err(in_the_header)?;
        let n_metadata = cursor.u64().map_err(in_the_header)?;
        let metadata = read_metadata(&mut cursor, n_metadata)?;
        let mut header = Self { metadata, tensors: Vec::new() };
        let alignment = header.alignment(bytes)?;
        // Each is followed by its entry in the file, so that a large number ends at the file's end.
        let mut infos = Vec::new();
        for index in 0..n_tensors {
            infos.push(read_tensor(&mut cursor, index, alignment)?);
        }
        let start = (cursor.position() as u64).checked_next_multiple_of(alignment);
        let start = start.ok_or_else(|| format!("its alignment {alignment} is too large"))?;
        for info in infos {
            header.tensors.push(info.locate(start, bytes.len())?);
        }
        check_names(&header.tensors)?;
        check_overlaps(&header.tensors)?;
        Ok(header)
    }

    pub(super) fn value<'a>(&self, bytes: &'a [u8], key: &str) -> Option<Value<'a>> {
        let &(kind, start) = self.metadata.get(key)?;
        let mut cursor = Cursor::new(bytes);
        cursor.skip(start as u64).ok()?;
        Value::read(&mut cursor, kind).ok() // it was read once, when the file was opened
    }

    fn alignment(&self, bytes: &[u8]) -> Result<u64, Reason> {
        match self.value(bytes, ALIGNMENT_KEY) {
            None => Ok(ALIGNMENT),
            Some(Value::Unsigned(n)) if n.is_power_of_two() => Ok(n),
            Some(other) => Err(format!(
                "metadata `{ALIGNMENT_KEY}` must be a power of two, got {}",
                other.name()
            )),
        }
    }
}

fn in_the_header(reason: Reason) -> Reason {
    format!("is cut off in its header: {reason}")
}

fn check_magic(cursor: &mut Cursor) -> Result<(), Reason> {
    if !cursor.array().is_ok_and(|magic| magic == *MAGIC) {
        return Err("is no GGUF file: it does not begin with `GGUF`".to_owned());
    }
    match cursor.u32().map_err(in_the_header)? {
        2 | 3 => Ok(()),
        version if version.trailing_zeros() >= 16 && version != 0 => {
            Err("is written for big-endian machines, which is not supported".to_owned())
        }
        version => Err(format!("has GGUF version {version}; 2 and 3 can be read")),
    }
}

fn read_metadata(
    cursor: &mut Cursor,
    n_metadata: u64,
) -> Result<BTreeMap<String, (ValueType, usize)>, Reason> {
    let mut metadata = BTreeMap::new();
    for index in 0..n_metadata {
        let key = read_name(cursor).map_err(|reason| format!("metadata {index}: {reason}"))?;
        let in_value = |reason: Reason| format!("metadata `{key}`: {reason}");
        let kind = ValueType::read(cursor).map_err(in_value)?;
        let start = cursor.position();
        Value::read(cursor, kind).map_err(in_value)?;
        if metadata.insert(key.to_owned(), (kind, start)).is_some() {
            return Err(format!("metadata `{key}` is there twice"));
        }
    }
    Ok(metadata)
}

/// A key or a tensor's name; messages show it, so it holds nothing that would confuse a terminal.
fn read_name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Reason> {
    let name = cursor.string()?;
    match name {
        "" => Err("its name is empty".to_owned()),
        _ if name.len() > MAX_NAME_BYTES => {
            Err(format!("its name has {} bytes, more than {MAX_NAME_BYTES}", name.len()))
        }
        _ if name.chars().any(char::is_control) => {
            Err(format!("its name `{}` holds control characters", name.escape_debug()))
        }
        _ => Ok(name),
    }
}

/// A tensor as its entry describes it, before it is known where the data begin.
struct Entry<'a> {
    name: &'a str,
    shape: Vec<usize>,
    kind: GgmlType,
    /// From the start of the data.
    offset: u64,
    n_bytes: u64,
}

fn read_tensor<'a>(
    cursor: &mut Cursor<'a>,
    index: u64,
    alignment: u64,
) -> Result<Entry<'a>, Reason> {
    let name = read_name(cursor).map_err(|reason| format!("tensor {index}: {reason}"))?;
    read_entry(cursor, name, alignment).map_err(|reason| format!("tensor `{name}`: {reason}"))
}

fn read_entry<'a>(
    cursor: &mut Cursor<'a>,
    name: &'a str,
    alignment: u64,
) -> Result<Entry<'a>, Reason> {
    let n_dimensions = cursor.u32()?;
    if n_dimensions > MAX_DIMENSIONS {
        return Err(format!("it has {n_dimensions} dimensions, more than {MAX_DIMENSIONS}"));
    }
    let mut shape = Vec::with_capacity(n_dimensions as usize);
    for _ in 0..n_dimensions {
        let size = cursor.u64()?;
        let fits = usize::try_from(size).ok().filter(|&size| size > 0);
        shape.push(fits.ok_or_else(|| format!("a dimension is {size}"))?);
    }
    let kind = GgmlType::from_code(cursor.u32()?)?;
    let offset = cursor.u64()?;
    if offset % alignment != 0 {
        return Err(format!("it begins at byte {offset}, not at a multiple of {alignment}"));
    }
    let columns = shape.first().copied().unwrap_or(1);
    if columns % kind.block_values() != 0 {
        let block = kind.block_values();
        return Err(format!("its rows of {columns} values are no whole {kind} blocks of {block}"));
    }
    let n_values = shape.iter().try_fold(1_u64, |n, &size| n.checked_mul(size as u64));
    let n_blocks = n_values.map(|n| n / kind.block_values() as u64);
    let n_bytes = n_blocks.and_then(|n| n.checked_mul(kind.block_bytes() as u64));
    let n_bytes = n_bytes.ok_or_else(|| format!("its shape {shape:?} is too large"))?;
    shape.reverse();
    Ok(Entry { name, shape, kind, offset, n_bytes })
}

impl Entry<'_> {
    fn locate(self, data_start: u64, file_bytes: usize) -> Result<TensorInfo, Reason> {
        let Self { name, shape, kind, offset, n_bytes } = self;
        let start = data_start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(n_bytes));
        let index = |byte: Option<u64>| byte.and_then(|byte| usize::try_from(byte).ok());
        match (index(start), index(end)) {
            (Some(start), Some(end)) if end <= file_bytes => {
                Ok(TensorInfo { name: name.to_owned(), shape, kind, range: start..end })
            }
            _ => Err(format!(
                "tensor `{name}`: its {n_bytes} bytes at byte {offset} of the data, which begin at byte {data_start}, go beyond the file's {file_bytes}"
            )),
        }
    }
}

fn check_names(tensors: &[TensorInfo]) -> Result<(), Reason> {
    let mut names = BTreeSet::new();
    match tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
        Some(tensor) => Err(format!("tensor `{}` is there twice", tensor.name)),
        None => Ok(()),
    }
}

fn check_overlaps(tensors: &[TensorInfo]) -> Result<(), Reason> {
    let mut ranges: Vec<(&Range<usize>, &str)> =
        tensors.iter().map(|tensor| (&tensor.range, tensor.name.as_str())).collect();
    ranges.sort_by_key(|(range, _)| (range.start, range.end));
    match ranges.windows(2).find(|pair| pair[1].0.start < pair[0].0.end) {
        Some(pair) => Err(format!("tensors `{}` and `{}` overlap", pair[0].1, pair[1].1)),
        None => Ok(()),
    }
}
