//! Decoding one token at a time without ever showing half a character.

use crate::error::{Error, Result};
use crate::tokenizer::{Kind, Tokenizer, Vocabulary};

/// Tokens after which text that still ends in U+FFFD is taken for truly broken, not for a character
/// in the making: none takes more than 4 bytes.
const MAX_PENDING: usize = 8;

/// Decodes token ids as they come.
///
/// For bytes, byte-level vocabularies and SentencePiece with byte fallback, the pieces and the end
/// together equal [`Tokenizer::decode`] of all ids. For others (WordPiece, Unigram) they do wherever
/// the bytes form characters. [`StopStrings`](crate::StopStrings) cuts the text off.
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes that do not form a character yet.
    bytes: Vec<u8>,
    /// Whether the text has begun.
    begun: bool,
    /// For decoders of whole sequences: ids from the start of the last piece on …
    ids: Vec<u32>,
    /// … of which so many have been shown.
    n_shown: usize,
}

impl<'a> StreamDecoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, bytes: Vec::new(), begun: false, ids: Vec::new(), n_shown: 0 }
    }

    /// The text that `id` completes; empty while a character is incomplete.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] for an id outside the vocabulary; nothing is lost, the next one
    /// may follow.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.tokenizer.check(id, || "a stream".to_owned())?;
        match self.tokenizer.kind() {
            Kind::Bytes => self.bytes.extend(u8::try_from(id)),
            Kind::Pieces(vocabulary, alphabet) => {
                let bytes = vocabulary.bytes_of(id, *alphabet);
                let n_stripped = if self.begun { 0 } else { alphabet.n_stripped(&bytes) };
                self.begun |= !bytes.is_empty();
                self.bytes.extend(&bytes[n_stripped..]);
            }
            Kind::Sequence(vocabulary) => return self.push_to_sequence(vocabulary, id),
        }
        Ok(take_characters(&mut self.bytes))
    }

    /// What is left: U+FFFD for a character that was never completed, else nothing.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer's own decoder fails.
    pub fn finish(mut self) -> Result<String> {
        if let Kind::Sequence(_) = self.tokenizer.kind() {
            let (shown, all) = self.texts()?;
            return Ok(all[common_bytes(&shown, &all)..].to_owned());
        }
        let mut text = take_characters(&mut self.bytes);
        text.push_str(&String::from_utf8_lossy(&self.bytes));
        Ok(text)
    }

    fn push_to_sequence(&mut self, vocabulary: &Vocabulary, id: u32) -> Result<String> {
        if vocabulary.is_special(id) {
            return Ok(String::new());
        }
        self.ids.push(id);
        let (shown, all) = self.texts()?;
        let piece = &all[common_bytes(&shown, &all)..];
        let undecided = all.ends_with('\u{fffd}') || !all.starts_with(&shown);
        let waits = undecided && self.ids.len() - self.n_shown < MAX_PENDING;
        if piece.is_empty() || waits {
            return Ok(String::new());
        }
        // One piece of context stays, as a decoder treats the first token of a text differently.
        self.ids.drain(..self.n_shown);
        self.n_shown = self.ids.len();
        Ok(piece.to_owned())
    }

    /// The text of the ids that were shown, and of all that are kept.
    fn texts(&self) -> Result<(String, String), Error> {
        let shown = self.tokenizer.decode(&self.ids[..self.n_shown])?;
        Ok((shown, self.tokenizer.decode(&self.ids)?))
    }
}

/// Takes all but an incomplete character off the front of `bytes`; broken parts become U+FFFD, as
/// [`String::from_utf8_lossy`] does it.
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut n_taken = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        n_taken += chunk.valid().len();
        let broken = chunk.invalid();
        let incomplete = n_taken + broken.len() == bytes.len() && is_prefix_of_character(broken);
        if !broken.is_empty() && !incomplete {
            text.push('\u{fffd}');
            n_taken += broken.len();
        }
    }
    bytes.drain(..n_taken);
    text
}

/// Bytes of the characters with which both texts begin.
fn common_bytes(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// Whether more bytes could make a character of `bytes`.
fn is_prefix_of_character(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}

#[cfg(test)]
mod tests;
