//! `metrics.jsonl`: one JSON object a line, appended as a run goes on, cut back when it resumes.
//!
//! Same config, machine and thread count give the same records, but for the keys that hold times
//! ([`is_timing_key`]). A number that is not finite is written as `null`, JSON's only way to say so.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result, damaged, io_error};

/// One line of a metrics file.
pub type Record = Map<String, Value>;

/// Whether a key holds a time or a rate, which no two runs share: `mfu`, `wall_time`, and whatever ends
/// in `_secs` or `_per_sec`. Writers name their keys so.
pub fn is_timing_key(key: &str) -> bool {
    matches!(key, "mfu" | "wall_time") || key.ends_with("_secs") || key.ends_with("_per_sec")
}

/// Appends records to a file. Each record reaches the operating system as it is written, so a killed
/// process loses none of them and tears at most the last.
#[derive(Debug)]
pub struct JsonlWriter {
    file: File,
    path: PathBuf,
    offset: u64,
}

impl JsonlWriter {
    /// Starts a file, empty even if there was one.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(io_error("create", path))?;
        Ok(Self { file, path: path.to_owned(), offset: 0 })
    }

    /// Goes on at the end of a file, or starts one. A torn last line, one without a line break, is cut off.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened.
    pub fn append(path: &Path) -> Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(io_error("open", path))?;
        let offset = end_of_last_line(&mut file).map_err(io_error("read", path))?;
        let mut writer = Self { file, path: path.to_owned(), offset };
        writer.truncate_to(offset)?;
        Ok(writer)
    }

    /// Opens a file and cuts it back to the `offset` that a checkpoint recorded.
    ///
    /// # Errors
    /// As [`JsonlWriter::append`] and [`JsonlWriter::truncate_to`].
    pub fn resume(path: &Path, offset: u64) -> Result<Self> {
        let mut writer = Self::append(path)?;
        writer.truncate_to(offset)?;
        Ok(writer)
    }

    /// Writes one record, which must be a JSON object. If that fails half-way, the half is taken back.
    ///
    /// # Errors
    /// [`Error::File`] if the record is no object, [`Error::Io`] if it cannot be written.
    pub fn write(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|e| damaged(&self.path, e))?;
        if line.first() != Some(&b'{') {
            return Err(damaged(&self.path, "a record that is not an object"));
        }
        line.push(b'\n');
        if let Err(source) = self.file.write_all(&line) {
            // A disk that is full can still be cut; should even that fail, the next opening does it.
            let _ = self.seek_to(self.offset);
            return Err(io_error("write", &self.path)(source));
        }
        self.offset += line.len() as u64;
        Ok(())
    }

    /// Bytes written so far: where the next record begins. A checkpoint records it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Flushes the file to the device, so that a checkpoint never knows more records than survive a
    /// power cut. Call it before the checkpoint is written.
    ///
    /// # Errors
    /// [`Error::Io`] if the device refuses.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(io_error("flush", &self.path))
    }

    /// Forgets everything after `offset`, the end of some record.
    ///
    /// # Errors
    /// [`Error::File`] if the file is shorter or `offset` is inside a record; it is left as it is then.
    pub fn truncate_to(&mut self, offset: u64) -> Result<()> {
        if offset > self.offset {
            let reason = format!("{} bytes long, cannot be cut back to {offset}", self.offset);
            return Err(damaged(&self.path, reason));
        }
        if !self.is_boundary(offset).map_err(io_error("read", &self.path))? {
            return Err(damaged(&self.path, format!("byte {offset} is inside a record")));
        }
        self.seek_to(offset).map_err(io_error("cut", &self.path))
    }

    fn is_boundary(&mut self, offset: u64) -> std::io::Result<bool> {
        if offset == 0 || offset == self.offset {
            return Ok(true);
        }
        // The handle of a file that `create` made cannot read.
        let mut file = File::open(&self.path)?;
        let mut byte = [0];
        file.seek(SeekFrom::Start(offset - 1))?;
        file.read_exact(&mut byte)?;
        Ok(byte == *b"\n")
    }

    fn seek_to(&mut self, offset: u64) -> std::io::Result<()> {
        self.file.set_len(offset)?;
        self.file.seek(SeekFrom::Start(offset))?;
        self.offset = offset;
        Ok(())
    }
}

/// Offset behind the last line break, found from the end in pieces.
fn end_of_last_line(file: &mut File) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut buffer = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let piece = &mut buffer[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Reads every record. The last line may be torn, as in a file that is still being written: without a
/// line break it counts only if it is a whole record. Blank lines are skipped.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Record`] with the line that is not a JSON object.
pub fn read_metrics(path: &Path) -> Result<Vec<Record>> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    let mut records = Vec::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(record) => records.push(record),
            Err(_) if !line.ends_with(b"\n") => {}
            Err(e) => {
                let (path, reason) = (path.to_owned(), format!("not a JSON object: {e}"));
                return Err(Error::Record { path, line: index + 1, reason });
            }
        }
    }
    Ok(records)
}

/// Where two metrics files first differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Record, counted from 1.
    pub record: usize,
    /// Key within it; none if one file has no such record.
    pub key: Option<String>,
    /// Value in the first file; none where it has none.
    pub left: Option<Value>,
    /// Value in the second file; none where it has none.
    pub right: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show =
            |value: &Option<Value>| value.as_ref().map_or("nothing".into(), Value::to_string);
        write!(f, "record {}", self.record)?;
        if let Some(key) = &self.key {
            write!(f, ", `{key}`")?;
        }
        write!(f, ": {} against {}", show(&self.left), show(&self.right))
    }
}

/// Compares two metrics files exactly, but for [timing keys](is_timing_key); none if they agree.
///
/// # Errors
/// As [`read_metrics`].
pub fn compare_metrics(left: &Path, right: &Path) -> Result<Option<Difference>> {
    let (left, right) = (read_metrics(left)?, read_metrics(right)?);
    let n_records = left.len().max(right.len());
    Ok((0..n_records).find_map(|index| difference(index, left.get(index), right.get(index))))
}

fn difference(index: usize, left: Option<&Record>, right: Option<&Record>) -> Option<Difference> {
    let record = index + 1;
    let (Some(left), Some(right)) = (left, right) else {
        let [left, right] = [left, right].map(|side| side.cloned().map(Value::Object));
        return Some(Difference { record, key: None, left, right });
    };
    let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let key =
        keys.into_iter().find(|key| !is_timing_key(key) && left.get(*key) != right.get(*key))?;
    let [left, right] = [left, right].map(|side| side.get(key).cloned());
    Some(Difference { record, key: Some(key.clone()), left, right })
}

#[cfg(test)]
mod tests;
