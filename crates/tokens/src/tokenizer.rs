//! Text to token ids and back: raw UTF-8 bytes, or whatever a Hugging Face `tokenizer.json` says.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::OnceLock;

use rayon::prelude::*;
use serde::de::IgnoredAny;
use tokenizers::tokenizer::{AddedToken, Tokenizer as HuggingFace};

use crate::alphabet::Alphabet;
use crate::error::{Error, Result, ensure};
use crate::file::write_atomic;
use crate::gguf::{self, Gguf};
use crate::hash::{Hash, hash_parts, hex};
use crate::stream::StreamDecoder;

/// Names under which vocabularies keep the token that ends a document, most telling first.
const END_OF_DOCUMENT: [&str; 8] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|endofdocument|>",
    "</s>",
    "<eos>",
    "<|eos|>",
    "[EOS]",
    "<EOS>",
];

/// Turns text into token ids and back.
///
/// [`Tokenizer::bytes`] gives id `b` to byte `b` and 256 to the end of a document; every text is
/// one of its own. The others follow a `tokenizer.json`, so that ids are those of the `tokenizers`
/// library without its special tokens (no `<s>` in front), and without truncation or padding, even
/// where the file asks for them.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    name: String,
    kind: Kind,
    vocab_size: u32,
    end_of_document: Option<u32>,
    hash: Hash,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Bytes,
    /// Every token stands for bytes, some of which may be half a character.
    Pieces(Box<Vocabulary>, Alphabet),
    /// The decoder sees a whole sequence of tokens.
    Sequence(Box<Vocabulary>),
}

#[derive(Clone, Debug)]
pub(crate) struct Vocabulary {
    /// What the file holds, byte for byte.
    json: Vec<u8>,
    /// Reads special tokens in a text as plain text.
    plain: HuggingFace,
    /// Reads them as special tokens; made at first need, as it doubles the memory.
    special: OnceLock<HuggingFace>,
}

impl Tokenizer {
    /// Bytes as tokens: 256 ids, and 256 itself for the end of a document.
    #[must_use]
    pub fn bytes() -> Self {
        Self {
            name: "bytes".to_owned(),
            kind: Kind::Bytes,
            vocab_size: 257,
            end_of_document: Some(256),
            hash: hash_parts([b"forerun byte tokenizer 1".as_slice()]),
        }
    }

    /// Reads a Hugging Face `tokenizer.json`.
    ///
    /// The end of a document is the first of `<|endoftext|>`, `<|end_of_text|>`,
    /// `<|endofdocument|>`, `</s>`, `<eos>`, `<|eos|>`, `[EOS]` and `<EOS>` that the vocabulary
    /// holds; [`Tokenizer::with_end_of_document`] chooses another.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Tokenizer`] if it is no tokenizer.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let json = fs::read(path).map_err(Error::io("read", path))?;
        Self::from_json(json, &path.display().to_string())
    }

    /// Reads the contents of a `tokenizer.json`; `name` is what errors call it. As
    /// [`Tokenizer::from_file`] otherwise.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if `json` is no tokenizer.
    pub fn from_json(json: impl Into<Vec<u8>>, name: &str) -> Result<Self> {
        let json = json.into();
        let failed = |reason: String| Error::tokenizer(name, reason);
        // What is no JSON at all makes the library panic in places.
        let text = str::from_utf8(&json).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| failed(error.to_string()))?;
        let mut plain = guarded(|| HuggingFace::from_bytes(&json)).map_err(failed)?;
        plain.with_padding(None);
        plain.with_truncation(None).map_err(|error| Error::tokenizer(name, error))?;
        plain.set_encode_special_tokens(true);

        let largest = plain.get_vocab(true).into_values().max();
        let vocab_size = largest.map_or(0, |id| id.saturating_add(1));
        if vocab_size == 0 {
            return Err(Error::tokenizer(name, "the vocabulary is empty"));
        }
        let end_of_document = END_OF_DOCUMENT.iter().find_map(|token| plain.token_to_id(token));
        let alphabet = plain.get_decoder().and_then(Alphabet::of);
        let hash = hash_parts([json.as_slice()]);
        let vocabulary = Box::new(Vocabulary { json, plain, special: OnceLock::new() });
        let kind = match alphabet {
            Some(alphabet) => Kind::Pieces(vocabulary, alphabet),
            None => Kind::Sequence(vocabulary),
        };
        Ok(Self { name: name.to_owned(), kind, vocab_size, end_of_document, hash })
    }

    /// Reads the vocabulary of a GGUF file: byte-level BPE (`gpt2`), or SentencePiece's BPE with byte
    /// fallback (`llama`). [`Tokenizer::save`] writes it as a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Gguf`] for another kind of vocabulary, an unknown pre-tokenizer, or a vocabulary
    /// that contradicts itself.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        Self::from_json(gguf::Vocabulary::read(file)?.to_json()?, file.name())
    }

    /// Ends documents with `token`, which joins the vocabulary as a special token, under the next
    /// free id, if it is not there yet.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for the byte tokenizer, whose end of a document is fixed.
    pub fn with_end_of_document(self, token: &str) -> Result<Self> {
        let Some(vocabulary) = self.vocabulary() else {
            return Err(Error::tokenizer(&self.name, "ends documents with id 256, always"));
        };
        ensure(!token.is_empty(), "end of document", "a non-empty token", "an empty one")?;
        let mut hub = vocabulary.plain.clone();
        hub.add_special_tokens(&[AddedToken::from(token, true)]);
        let json = hub.to_string(false).map_err(|error| Error::tokenizer(&self.name, error))?;
        let mut tokenizer = Self::from_json(json, &self.name)?;
        tokenizer.end_of_document = hub.token_to_id(token);
        // The file does not say which of its tokens ends a document, so the hash has to.
        tokenizer.hash = hash_parts([tokenizer.hash.as_slice(), token.as_bytes()]);
        Ok(tokenizer)
    }

    /// Writes the `tokenizer.json`, which the `tokenizers` library opens and which has the same
    /// [`Tokenizer::hash`] when read again (a chosen end of document has to be chosen again). All
    /// of it or, after a crash, none of it is there.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for the byte tokenizer, which needs no file; [`Error::Io`] if the file
    /// cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let Some(vocabulary) = self.vocabulary() else {
            return Err(Error::tokenizer(
                &self.name,
                "has no file: make it with `Tokenizer::bytes`",
            ));
        };
        write_atomic(path.as_ref(), &vocabulary.json)
    }

    /// Token ids of `text`. Special tokens that stand in the text are read as plain text: a
    /// document that mentions `<|endoftext|>` does not end there.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer's own rules fail on `text`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self.vocabulary() {
            None => Ok(text.bytes().map(u32::from).collect()),
            Some(vocabulary) => self.encode_with(&vocabulary.plain, text, false),
        }
    }

    /// Token ids of `text` in which special tokens, such as those of a chat template, become their
    /// ids.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_special(&self, text: &str) -> Result<Vec<u32>> {
        match self.vocabulary() {
            Some(vocabulary) => self.encode_with(vocabulary.special(), text, false),
            None => self.encode(text),
        }
    }

    /// As [`Tokenizer::encode_special`], with what the file puts around a text, such as BOS in
    /// front: what a model that was not tuned to chat wants to complete.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        match self.vocabulary() {
            Some(vocabulary) => self.encode_with(vocabulary.special(), text, true),
            None => self.encode(text),
        }
    }

    /// [`Tokenizer::encode`] of each text, on all cores; the result does not depend on their
    /// number.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], for the first text that fails.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<u32>>> {
        self.encode_each(texts).into_iter().collect()
    }

    pub(crate) fn encode_each<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Vec<Result<Vec<u32>>> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// Text of `ids`. Special tokens are left out, and bytes that are no UTF-8, which a model may
    /// well produce, become U+FFFD, one for each maximal broken part.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        for (position, &id) in ids.iter().enumerate() {
            self.check(id, || format!("position {position}"))?;
        }
        match &self.kind {
            Kind::Bytes => {
                let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Kind::Pieces(vocabulary, alphabet) => {
                let bytes: Vec<u8> =
                    ids.iter().flat_map(|&id| vocabulary.bytes_of(id, *alphabet)).collect();
                let text = &bytes[alphabet.n_stripped(&bytes)..];
                Ok(String::from_utf8_lossy(text).into_owned())
            }
            Kind::Sequence(vocabulary) => guarded(|| vocabulary.plain.decode(ids, true))
                .map_err(|reason| Error::tokenizer(&self.name, reason)),
        }
    }

    /// Decodes one id after the other, as a model generates them.
    #[must_use]
    pub fn stream_decoder(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self)
    }

    /// Number of ids: one more than the largest, so the rows that an embedding needs.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// The id that ends a document, if the vocabulary has one.
    #[must_use]
    pub fn end_of_document(&self) -> Option<u32> {
        self.end_of_document
    }

    /// The id of `token` as the vocabulary writes it; none for the byte tokenizer.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.vocabulary()?.plain.token_to_id(token)
    }

    /// Whether `id` is a special token, which decoding leaves out.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        match self.vocabulary() {
            Some(vocabulary) => vocabulary.is_special(id),
            None => Some(id) == self.end_of_document,
        }
    }

    /// SHA-256, in hex, of all that decides about ids.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(&self.hash)
    }

    /// `bytes`, or the file that the tokenizer was read from.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn hash_bytes(&self) -> Hash {
        self.hash
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(crate) fn check(&self, id: u32, place: impl FnOnce() -> String) -> Result<()> {
        let vocab_size = self.vocab_size;
        if id < vocab_size {
            return Ok(());
        }
        Err(Error::TokenOutOfRange { id, place: place(), vocab_size })
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        match &self.kind {
            Kind::Bytes => None,
            Kind::Pieces(vocabulary, _) | Kind::Sequence(vocabulary) => Some(vocabulary),
        }
    }

    fn encode_with(&self, hub: &HuggingFace, text: &str, around: bool) -> Result<Vec<u32>> {
        let encoding = guarded(|| hub.encode_fast(text, around))
            .map_err(|reason| Error::tokenizer(&self.name, reason))?;
        Ok(encoding.get_ids().to_vec())
    }
}

impl Vocabulary {
    pub(crate) fn is_special(&self, id: u32) -> bool {
        let added = self.plain.get_added_vocabulary();
        self.plain.id_to_token(id).is_some_and(|token| added.is_special_token(&token))
    }

    /// The bytes of `id`; none for a special token or an id that stands for nothing.
    pub(crate) fn bytes_of(&self, id: u32, alphabet: Alphabet) -> Vec<u8> {
        let added = self.plain.get_added_vocabulary();
        match self.plain.id_to_token(id) {
            Some(token) if !added.is_special_token(&token) => alphabet.to_bytes(&token),
            _ => Vec::new(),
        }
    }

    fn special(&self) -> &HuggingFace {
        self.special.get_or_init(|| {
            let mut special = self.plain.clone();
            special.set_encode_special_tokens(false);
            special
        })
    }
}

/// The library panics on some files that no tool has written; to a caller that is an error too.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizers library does not know what to do with it".to_owned()),
    }
}

#[cfg(test)]
mod tests;
