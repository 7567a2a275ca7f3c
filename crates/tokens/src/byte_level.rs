//! The printable alphabet in which byte-level BPE writes bytes.
//!
//! Radford et al. 2019 (GPT-2): a printable Latin-1 byte stands for itself; the other 68, in
//! ascending order, are written as the characters from U+0100 on. A space thus becomes `Ġ`.

use std::sync::LazyLock;

static CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = '\u{100}'..;
    std::array::from_fn(|byte| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte as u8),
        _ => next.next().unwrap_or_default(),
    })
});

/// The byte of each character up to U+0143, the last one in use.
static BYTES: LazyLock<[Option<u8>; 0x144]> = LazyLock::new(|| {
    let mut bytes = [None; 0x144];
    for (byte, &c) in (0..=u8::MAX).zip(CHARS.iter()) {
        bytes[c as usize] = Some(byte);
    }
    bytes
});

/// The text that stands for `bytes` in a byte-level vocabulary.
pub(crate) fn to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| CHARS[usize::from(byte)]).collect()
}

/// The bytes for which `token` stands; a token with any other character stands for its own UTF-8
/// bytes.
pub(crate) fn to_bytes(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> =
        token.chars().map(|c| BYTES.get(c as usize).copied().flatten()).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests;
