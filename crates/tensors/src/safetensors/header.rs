//! The header of a safetensors file: read, checked, written.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::error::{Error, Result};

/// The reference implementation's limit on the header, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// libtorch has no limit of its own; NumPy's.
const MAX_DIMS: usize = 64;
/// Bytes before the header: its length.
pub(super) const PREFIX: usize = 8;
const METADATA: &str = "__metadata__";

/// A checked header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) file_len: u64,
}

/// A checked entry: `range`, in bytes from the beginning of the file, is inside it and fits kind and shape.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) shape: Vec<i64>,
    pub(super) range: Range<usize>,
}

/// An entry as it stands in the file; `data_offsets` count from the end of the header.
#[derive(Debug, Serialize, Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header as it stands in the file; unlike a map, it remembers that a name occurred twice.
#[derive(Debug, Default)]
struct RawHeader {
    entries: Vec<(String, RawEntry)>,
    metadata: Option<BTreeMap<String, String>>,
}

impl Header {
    pub(super) fn read(path: &Path, file: &mut File) -> Result<Self> {
        let io = |source| Error::io(path, source);
        let file_len = file.metadata().map_err(io)?.len();
        let refused = |reason: String| Err(Error::file(path, reason));
        if file_len < PREFIX as u64 {
            return refused(format!("truncated: {file_len} bytes, not even the header's length"));
        }
        let mut prefix = [0; PREFIX];
        file.read_exact(&mut prefix).map_err(io)?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > MAX_HEADER {
            return refused(format!(
                "a header of {header_len} bytes; at most {MAX_HEADER} are read"
            ));
        }
        let Some(data_len) = (file_len - PREFIX as u64).checked_sub(header_len) else {
            return refused(format!(
                "truncated: a header of {header_len} bytes in a file of {file_len} bytes"
            ));
        };
        let mut text = vec![0; header_len as usize]; // no longer than the file
        file.read_exact(&mut text).map_err(io)?;
        if text.first() != Some(&b'{') {
            return refused("no safetensors file: its header does not begin with `{`".to_owned());
        }
        let raw: RawHeader = serde_json::from_slice(&text)
            .map_err(|error| Error::file(path, format!("unreadable header: {error}")))?;
        Self::checked(path, raw, PREFIX + text.len(), data_len, file_len)
    }

    fn checked(
        path: &Path,
        raw: RawHeader,
        start: usize,
        data_len: u64,
        file_len: u64,
    ) -> Result<Self> {
        let mut entries = BTreeMap::new();
        let mut ranges = Vec::with_capacity(raw.entries.len());
        for (name, entry) in raw.entries {
            let (begin, end) = entry.data_offsets;
            let entry = match checked_entry(&entry, start, data_len) {
                Ok(entry) => entry,
                Err(reason) => return Err(Error::tensor(path, &name, reason)),
            };
            ranges.push((begin, end, name.clone()));
            if entries.contains_key(&name) {
                return Err(Error::tensor(path, &name, "occurs twice in the header"));
            }
            entries.insert(name, entry);
        }
        check_cover(path, ranges, data_len)?;
        Ok(Self { entries, metadata: raw.metadata.unwrap_or_default(), file_len })
    }
}

fn checked_entry(raw: &RawEntry, start: usize, data_len: u64) -> Result<Entry, String> {
    let RawEntry { dtype, shape, data_offsets: (begin, end) } = raw;
    let Some(&(_, kind, size)) = KINDS.iter().find(|(name, ..)| name == dtype) else {
        return Err(format!("has dtype `{dtype}`, which is not supported"));
    };
    if begin > end || *end > data_len {
        return Err(format!("claims bytes {begin}..{end} of {data_len}"));
    }
    if shape.len() > MAX_DIMS {
        return Err(format!("has {} dimensions; at most {MAX_DIMS} are read", shape.len()));
    }
    // A zero makes the tensor empty, but must not hide sizes that libtorch could not multiply.
    let bytes = shape.iter().try_fold(size as u64, |bytes, &n| bytes.checked_mul(n.max(1)));
    let bytes = match bytes.filter(|&bytes| i64::try_from(bytes).is_ok()) {
        Some(_) if shape.contains(&0) => 0,
        Some(bytes) => bytes,
        None => return Err(format!("has shape {shape:?}, which is too large")),
    };
    if bytes != end - begin {
        let claimed = end - begin;
        return Err(format!("takes {bytes} bytes as {dtype} {shape:?}, but claims {claimed}"));
    }
    let shape = shape.iter().map(|&size| size as i64).collect(); // each is below the product, which fits
    Ok(Entry { kind, shape, range: start + *begin as usize..start + *end as usize })
}

/// The tensors lie side by side: none overlaps another, and no byte is left over to hide something in.
fn check_cover(path: &Path, mut ranges: Vec<(u64, u64, String)>, data_len: u64) -> Result<()> {
    ranges.sort();
    let mut covered = 0;
    for (begin, end, name) in ranges {
        if begin < covered {
            return Err(Error::tensor(path, &name, "overlaps another tensor"));
        }
        if begin > covered {
            let gap = begin - covered;
            return Err(Error::tensor(path, &name, format!("comes after a gap of {gap} bytes")));
        }
        covered = end;
    }
    match data_len - covered {
        0 => Ok(()),
        left => Err(Error::file(path, format!("{left} bytes at its end belong to no tensor"))),
    }
}

/// The kinds that are read and written: name in the file, kind, bytes. In the reference implementation's order
/// of writing, which puts the widest first, so that every tensor is aligned.
const KINDS: [(&str, Kind, usize); 10] = [
    ("I64", Kind::Int64, 8),
    ("F64", Kind::Double, 8),
    ("F32", Kind::Float, 4),
    ("I32", Kind::Int, 4),
    ("BF16", Kind::BFloat16, 2),
    ("F16", Kind::Half, 2),
    ("I16", Kind::Int16, 2),
    ("I8", Kind::Int8, 1),
    ("U8", Kind::Uint8, 1),
    ("BOOL", Kind::Bool, 1),
];

/// One tensor to be written: its place in the caller's list, and its size.
pub(super) struct Planned {
    pub(super) index: usize,
    pub(super) n_bytes: usize,
}

/// The prefix and header of a file that holds `tensors` (name, kind, shape), and the order of their bytes.
pub(super) fn plan(
    path: &Path,
    tensors: &[(&str, Kind, Vec<i64>)],
    metadata: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, Vec<Planned>)> {
    let mut parts = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        parts.push(format!("\"{METADATA}\":{}", json(path, metadata)?));
    }
    let (mut offset, mut planned) = (0, Vec::with_capacity(tensors.len()));
    for (rank, name, index) in file_order(path, tensors)? {
        let (dtype, _, size) = KINDS[rank];
        let shape: Vec<u64> = tensors[index].2.iter().map(|&size| size as u64).collect();
        let n_bytes = shape.iter().product::<u64>() * size as u64;
        let entry =
            RawEntry { dtype: dtype.to_owned(), shape, data_offsets: (offset, offset + n_bytes) };
        parts.push(format!("{}:{}", json(path, name)?, json(path, &entry)?));
        planned.push(Planned { index, n_bytes: n_bytes as usize });
        offset += n_bytes;
    }
    let mut text = format!("{{{}}}", parts.join(",")).into_bytes();
    text.resize(text.len().next_multiple_of(PREFIX), b' ');
    let len = text.len() as u64;
    if len > MAX_HEADER {
        let reason = format!("a header of {len} bytes; at most {MAX_HEADER} can be stored");
        return Err(Error::file(path, reason));
    }
    Ok(([len.to_le_bytes().as_slice(), &text].concat(), planned))
}

/// Rank of the kind, name and place in `tensors`, in the order of the file; no name twice.
fn file_order<'a>(
    path: &Path,
    tensors: &[(&'a str, Kind, Vec<i64>)],
) -> Result<Vec<(usize, &'a str, usize)>> {
    let mut seen = HashSet::with_capacity(tensors.len());
    let mut order = Vec::with_capacity(tensors.len());
    for (index, (name, kind, _)) in tensors.iter().enumerate() {
        let Some(rank) = KINDS.iter().position(|(_, known, _)| known == kind) else {
            let reason = format!("has kind {kind:?}, which cannot be stored");
            return Err(Error::tensor(path, name, reason));
        };
        if *name == METADATA {
            return Err(Error::tensor(path, name, "has a name that the format reserves"));
        }
        if !seen.insert(*name) {
            return Err(Error::tensor(path, name, "is given twice"));
        }
        order.push((rank, *name, index));
    }
    order.sort();
    Ok(order)
}

fn json(path: &Path, value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::file(path, error.to_string()))
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a map from names to tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        while let Some(name) = map.next_key::<String>()? {
            if name != METADATA {
                header.entries.push((name, map.next_value()?));
            } else if header.metadata.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("`__metadata__` occurs twice"));
            }
        }
        Ok(header)
    }
}
