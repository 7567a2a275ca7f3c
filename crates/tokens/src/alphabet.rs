//! How vocabularies write bytes: which of them a token stands for can be seen in the token alone.

use serde_json::{Value as Json, json};
use tokenizers::DecoderWrapper;

use crate::byte_level;

/// How a token is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// GPT-2's: a character for each byte.
    ByteLevel,
    /// SentencePiece's: `▁` for a space, `<0x0A>` for a byte.
    SentencePiece {
        /// Whether the space with which the text begins was added by the encoder.
        strips: bool,
    },
}

impl Alphabet {
    /// The alphabet that a decoder reads, where tokens can be read one by one.
    pub(crate) fn of(decoder: &DecoderWrapper) -> Option<Self> {
        if matches!(decoder, DecoderWrapper::ByteLevel(_)) {
            return Some(Self::ByteLevel);
        }
        let steps = serde_json::to_value(decoder).ok()?;
        let pieces = [
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
            json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}),
        ];
        let is = |expected: &[Json]| steps["decoders"].as_array().is_some_and(|s| s == expected);
        match steps["type"] == "Sequence" {
            true if is(&pieces) => Some(Self::SentencePiece { strips: true }),
            true if is(&pieces[..3]) => Some(Self::SentencePiece { strips: false }),
            _ => None,
        }
    }

    /// The bytes for which `token` stands.
    pub(crate) fn to_bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => byte_level::to_bytes(token),
            Self::SentencePiece { .. } => match byte_of(token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
        }
    }

    /// How many of the bytes with which a text begins are not shown.
    pub(crate) fn n_stripped(self, start: &[u8]) -> usize {
        let strips = self == Self::SentencePiece { strips: true };
        usize::from(strips && start.first() == Some(&b' '))
    }
}

/// The byte for which a SentencePiece token such as `<0x0A>` stands.
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}
