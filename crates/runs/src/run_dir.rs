//! The directory of one run of an experiment: `BASE/NAME/2026-11-22T19-31-07Z-3f9c1a2b`, named after
//! its start and the first eight digits of its config's hash. `DONE` is written last; a directory
//! without it is of a run that failed or still goes on.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::atomic::{parent, sync_dir, write_atomic};
use crate::error::{Result, damaged, ensure, io_error};

/// Name of the marker of a finished run.
pub const DONE: &str = "DONE";

/// Digits of the config's hash in a directory's name.
const HASH_DIGITS: usize = 8;

/// Length of `2026-11-22T19-31-07Z`.
const TIME_DIGITS: usize = 20;

/// Names below the base directory that no experiment may have: the store of cells.
const RESERVED: &str = "cells";

/// A run's directory, which exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a new, empty directory below `base`. A second run of the same second and config gets `-2`
    /// at the end of its name, a third `-3`; two processes never get the same one.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `name` is not one plain path component of letters,
    /// digits, `-`, `_` and `.`, or `config_hash` has not eight hexadecimal digits or more;
    /// [`Error::Io`](crate::Error::Io) otherwise.
    pub fn create(base: &Path, name: &str, config_hash: &str, started: Timestamp) -> Result<Self> {
        let parent_dir = base.join(checked(name)?);
        fs::create_dir_all(&parent_dir).map_err(io_error("create", &parent_dir))?;
        let time = started.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
        let stem = format!("{time}-{}", short(config_hash)?);
        for attempt in 1_usize.. {
            let suffix = if attempt == 1 { String::new() } else { format!("-{attempt}") };
            let path = parent_dir.join(format!("{stem}{suffix}"));
            match fs::create_dir(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(io_error("create", &path)(e)),
                Ok(()) => {
                    sync_dir(&parent_dir)?;
                    return Ok(Self { path });
                }
            }
        }
        Err(damaged(&parent_dir, "no name is free"))
    }

    /// Opens a directory that exists, whatever its name.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if there is none, [`Error::File`](crate::Error::File) if it is a file.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(io_error("open", path))?;
        if !metadata.is_dir() {
            return Err(damaged(path, "not a directory"));
        }
        Ok(Self { path: path.to_owned() })
    }

    /// All runs of one experiment, oldest first; none if it never ran. Entries whose names are not
    /// those of runs are left out.
    ///
    /// # Errors
    /// As [`RunDir::create`].
    pub fn list(base: &Path, name: &str) -> Result<Vec<Self>> {
        let dir = base.join(checked(name)?);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io_error("list", &dir)(e)),
        };
        let mut runs = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_error("list", &dir))?.path();
            if let Some(parts) = parse(&path)
                && path.is_dir()
            {
                runs.push((parts, Self { path }));
            }
        }
        runs.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    /// The newest run of this config that has no `DONE`. It may still be going on in another process:
    /// [`lock_dir`](crate::lock::lock_dir) tells.
    ///
    /// # Errors
    /// As [`RunDir::create`].
    pub fn find_unfinished(base: &Path, name: &str, config_hash: &str) -> Result<Option<Self>> {
        let hash = short(config_hash)?;
        let runs = Self::list(base, name)?;
        let same_config = |run: &Self| parse(&run.path).is_some_and(|parts| parts.hash == hash);
        Ok(runs.into_iter().rev().find(|run| same_config(run) && !run.is_done()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Marks the run as finished: flushes the directory, then writes `DONE`. Call it last.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the marker cannot be written.
    pub fn finish(&self) -> Result<()> {
        sync_dir(&self.path)?;
        sync_dir(&parent(&self.path))?;
        write_atomic(&self.file(DONE), b"")
    }

    /// Takes the mark away, because the run is to be changed, for example by a newer report.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the marker exists and cannot be removed.
    pub fn reopen(&self) -> Result<()> {
        let done = self.file(DONE);
        match fs::remove_file(&done) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &done)(e)),
            _ => sync_dir(&self.path),
        }
    }

    /// Whether the run finished.
    pub fn is_done(&self) -> bool {
        File::open(self.file(DONE)).is_ok()
    }
}

/// What a directory's name says; ordered by time, then by the number of the attempt.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Parts {
    time: String,
    attempt: usize,
    hash: String,
}

fn parse(path: &Path) -> Option<Parts> {
    let name = path.file_name()?.to_str()?;
    let (time, rest) = name.split_at_checked(TIME_DIGITS)?;
    let is_time = time.bytes().zip(b"0000-00-00T00-00-00Z").all(|(got, want)| match want {
        b'0' => got.is_ascii_digit(),
        _ => got == *want,
    });
    let rest = rest.strip_prefix('-')?;
    let (hash, attempt) = match rest.split_once('-') {
        None => (rest, 1),
        Some((hash, attempt)) => (hash, attempt.parse().ok().filter(|n| *n > 1)?),
    };
    let is_hash = hash.len() == HASH_DIGITS && is_lower_hex(hash);
    (is_time && is_hash).then(|| Parts { time: time.to_owned(), attempt, hash: hash.to_owned() })
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn short(config_hash: &str) -> Result<&str> {
    let digits = config_hash.get(..HASH_DIGITS).filter(|_| is_lower_hex(config_hash));
    ensure(
        digits.is_some(),
        "config_hash",
        "8 or more lower-case hexadecimal digits",
        config_hash,
    )?;
    Ok(digits.unwrap_or_default())
}

fn checked(name: &str) -> Result<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ok = !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain);
    ensure(ok, "name", "letters, digits, `-`, `_` and `.`, not starting with `.`", name)?;
    ensure(name != RESERVED, "name", "another word than that of the store of cells", name)?;
    Ok(name)
}

#[cfg(test)]
mod tests;
