//! TensorBoard event files: scalars and text, written without TensorFlow, and read back.
//!
//! A file is a row of records: length (8 bytes, little-endian), masked CRC-32C of the length, payload,
//! masked CRC-32C of the payload. The payload is a protocol buffer `tensorflow.Event` (event.proto and
//! summary.proto of TensorFlow); `protobuf` writes the few fields that are needed by hand.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::atomic::sync_dir;
use crate::error::{Result, damaged, ensure, io_error};

mod protobuf;

use protobuf::{decode_event, encode_event};

/// One thing that an event file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Seconds since 1970, UTC.
    pub wall_time: f64,
    /// Optimiser step or another counter.
    pub step: i64,
    /// What it says.
    pub content: Content,
}

/// Content of an [`Event`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// First record of every file.
    Version(String),
    /// A resumed run starts; what earlier files say about this step and later ones is void.
    Start,
    /// One number of the series `tag`, such as `train/loss`.
    Scalar {
        /// Name of the series; what comes before `/` groups it.
        tag: String,
        /// Its value.
        value: f32,
    },
    /// A text, read as Markdown.
    Text {
        /// Name of the series.
        tag: String,
        /// The text.
        text: String,
    },
}

/// Writes one event file.
///
/// Each record reaches the operating system as it is written. A run that resumes at a step starts a
/// new file ([`EventWriter::resume`]); the files of a directory make one history.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Starts a file in `dir`, which is made if it is missing. `source` says who writes, such as a
    /// cell's label; letters, digits, `-`, `_` and `.`. `wall_time` is in seconds since 1970.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a `source` or `wall_time` that cannot be part of a name,
    /// [`Error::Io`](crate::Error::Io) if the file cannot be made.
    pub fn create(dir: &Path, source: &str, wall_time: f64) -> Result<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let ok = !source.is_empty() && source.bytes().all(plain);
        ensure(ok, "source", "letters, digits, `-`, `_` and `.`", source)?;
        ensure((0.0..1e11).contains(&wall_time), "wall_time", "seconds since 1970", wall_time)?;
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let (file, path) = free_file(dir, source, wall_time)?;
        sync_dir(dir)?;
        let mut writer = Self { file, path };
        writer.write(&Event { wall_time, step: 0, content: Content::Version(VERSION.into()) })?;
        Ok(writer)
    }

    /// Starts another file in `dir`, for a run that goes on with `step`: TensorBoard then hides what the
    /// earlier files say about this step and later ones.
    ///
    /// # Errors
    /// As [`EventWriter::create`].
    pub fn resume(dir: &Path, source: &str, wall_time: f64, step: i64) -> Result<Self> {
        let mut writer = Self::create(dir, source, wall_time)?;
        writer.write(&Event { wall_time, step, content: Content::Start })?;
        Ok(writer)
    }

    /// Writes one number of the series `tag`. TensorBoard keeps 32 bits of it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: i64, value: f64, wall_time: f64) -> Result<()> {
        let content = Content::Scalar { tag: tag.to_owned(), value: value as f32 };
        self.write(&Event { wall_time, step, content })
    }

    /// Writes a text, which TensorBoard shows as Markdown.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    pub fn text(&mut self, tag: &str, step: i64, text: &str, wall_time: f64) -> Result<()> {
        let content = Content::Text { tag: tag.to_owned(), text: text.to_owned() };
        self.write(&Event { wall_time, step, content })
    }

    /// Flushes the file to the device.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the device refuses.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(io_error("flush", &self.path))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let record = frame(&encode_event(event));
        self.file.write_all(&record).map_err(io_error("write", &self.path))
    }
}

/// What TensorBoard wants to see first.
const VERSION: &str = "brain.Event:2";

/// A new file; the number at the end of its name keeps files of the same second apart and in order.
fn free_file(dir: &Path, source: &str, wall_time: f64) -> Result<(File, PathBuf)> {
    for number in 0..1_000_000_u32 {
        let second = wall_time as u64;
        let path = dir.join(format!("events.out.tfevents.{second:010}.{source}.{number}"));
        match File::create_new(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(io_error("create", &path)(e)),
            Ok(file) => return Ok((file, path)),
        }
    }
    Err(damaged(dir, "a million event files of one second"))
}

/// Reads one event file, ours or that of PyTorch or TensorFlow; values that are neither scalars nor
/// text are skipped. A torn last record, as a killed writer leaves it, is left out.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if the file cannot be read, [`Error::File`](crate::Error::File) with the
/// byte where a checksum or a payload is wrong.
pub fn read_events(path: &Path) -> Result<Vec<Event>> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    let mut events = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        match unframe(rest) {
            Frame::Torn => break,
            Frame::Bad => return Err(damaged(path, format!("wrong checksum at byte {at}"))),
            Frame::Whole { payload, tail } => {
                let decoded = decode_event(payload);
                events.extend(
                    decoded.ok_or_else(|| damaged(path, format!("no event at byte {at}")))?,
                );
                rest = tail;
            }
        }
    }
    Ok(events)
}

/// Reads every event file of a directory as one history: files in the order of their names, and what a
/// resumed run wrote again counts once.
///
/// # Errors
/// As [`read_events`].
pub fn read_history(dir: &Path) -> Result<Vec<Event>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if let Some(name) = name.filter(|name| name.contains("tfevents")) {
            // `.2` comes before `.10`: shorter numbers first where the rest is equal.
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
            paths.push((stem, name.len(), name, path));
        }
    }
    paths.sort();
    let mut history: Vec<Event> = Vec::new();
    for (.., path) in paths {
        for event in read_events(&path)? {
            if event.content == Content::Start {
                history.retain(|earlier| earlier.step < event.step);
            }
            if matches!(event.content, Content::Scalar { .. } | Content::Text { .. }) {
                history.push(event);
            }
        }
    }
    Ok(history)
}

/// Bytes of a record around its payload: length and two checksums.
const HEAD: usize = 12;
const TAIL: usize = 4;

/// The format's own twist on CRC-32C, so that data that hold checksums do not confuse it.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(HEAD + payload.len() + TAIL);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(payload);
    record.extend(masked_crc(payload).to_le_bytes());
    record
}

enum Frame<'a> {
    /// The bytes end before the record does.
    Torn,
    /// A checksum is wrong.
    Bad,
    Whole {
        payload: &'a [u8],
        tail: &'a [u8],
    },
}

fn unframe(bytes: &[u8]) -> Frame<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Frame::Torn };
    let Some((crc, rest)) = rest.split_first_chunk::<4>() else { return Frame::Torn };
    if u32::from_le_bytes(*crc) != masked_crc(length) {
        return Frame::Bad;
    }
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let Some((payload, rest)) = rest.split_at_checked(length) else { return Frame::Torn };
    let Some((crc, tail)) = rest.split_first_chunk::<4>() else { return Frame::Torn };
    if u32::from_le_bytes(*crc) != masked_crc(payload) {
        return Frame::Bad;
    }
    Frame::Whole { payload, tail }
}

#[cfg(test)]
mod tests;
