//! Room on the disk.

use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Error, Result, anyhow, bail};

use crate::wheels::Purpose;

/// Fails if the file system of `dir` has less than `needed` bytes to spare. Says nothing if that cannot be found out:
/// a full disk is noticed again when it happens.
pub(crate) fn check(dir: &Path, needed: u64, purpose: &Purpose) -> Result<()> {
    match free_bytes(dir) {
        Some(free) if free < needed => bail!(
            "{} needs {} free on the disk of `{}`, which has {}; free some, {}",
            purpose.what,
            megabytes(needed),
            dir.display(),
            megabytes(free),
            purpose.otherwise
        ),
        _ => Ok(()),
    }
}

/// What POSIX `df` says; the standard library has no function for it.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(dir).output().ok()?;
    parse_df(&String::from_utf8_lossy(&output.stdout))
}

fn parse_df(table: &str) -> Option<u64> {
    // The device may hold blanks; the folder may too. Five columns lie between: size, used, available, percent.
    let row = table.lines().nth(1)?;
    let words: Vec<&str> = row.split_whitespace().collect();
    let percent = words
        .iter()
        .position(|word| word.strip_suffix('%').is_some_and(|n| n.parse::<u32>().is_ok()))?;
    let kilobytes: u64 = words.get(percent.checked_sub(1)?)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// `error`, or where it says that the disk is full, the way out.
pub(crate) fn explain(error: io::Error, path: &Path) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(path),
        _ => anyhow!("cannot write `{}`: {error}", path.display()),
    }
}

/// The disk became full while we wrote to it.
pub(crate) fn full(path: &Path) -> Error {
    anyhow!("the disk of `{}` is full; free some space and run the command again", path.display())
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests;
