//! Little-endian numbers off the front of a file that may lie about every length.

use std::ops::Range;

/// What is wrong with a file, without the file's name.
pub(super) type Reason = String;

/// A place in `bytes`.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes that were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next `n` bytes; nothing is allocated, whatever `n` says.
    pub(super) fn take(&mut self, n: u64) -> Result<&'a [u8], Reason> {
        let range = self.skip(n)?;
        Ok(&self.bytes[range])
    }

    /// As [`Cursor::take`], but says where the bytes lie.
    pub(super) fn skip(&mut self, n: u64) -> Result<Range<usize>, Reason> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(n) {
            Ok(n) if n <= left => {
                let start = self.at;
                self.at += n;
                Ok(start..self.at)
            }
            _ => Err(format!("needs {n} bytes at byte {}, where {left} are left", self.at)),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let bytes = self.take(N as u64)?;
        Ok(std::array::from_fn(|i| bytes[i]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Reason> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Reason> {
        self.array().map(u64::from_le_bytes)
    }

    /// The bytes of a string: its length, then itself.
    pub(super) fn string_bytes(&mut self) -> Result<&'a [u8], Reason> {
        let n = self.u64()?;
        self.take(n)
    }

    pub(super) fn string(&mut self) -> Result<&'a str, Reason> {
        let start = self.at;
        let bytes = self.string_bytes()?;
        std::str::from_utf8(bytes).map_err(|_| format!("the string at byte {start} is no UTF-8"))
    }
}
