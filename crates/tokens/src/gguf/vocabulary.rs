//! The vocabulary in a GGUF file as a `tokenizer.json`.
//!
//! Two families: `gpt2`, byte-level BPE with merges, and `llama`, SentencePiece's BPE, where a score
//! stands for the order of merges and bytes for characters without a piece. What llama.cpp keeps in
//! code (how a named pre-tokenizer splits, when BOS is added) is written out here.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::Gguf;
use crate::bpe::{Model, Special};
use crate::error::{Error, Result};

mod split;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

/// Control tokens of Phi-3 after which blanks stay.
const PHI3_KEEPS: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// What a token is for, as `tokenizer.ggml.token_type` numbers it.
mod token_type {
    pub(super) const NORMAL: i64 = 1;
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
}

/// The tokens and what each is for.
pub(crate) struct Vocabulary<'a> {
    file: &'a Gguf,
    model: &'a str,
    /// Name of the pre-tokenizer.
    pre: &'a str,
    pub(crate) tokens: Vec<&'a str>,
    types: Vec<i64>,
}

impl<'a> Vocabulary<'a> {
    /// Reads and checks the vocabulary of `file`.
    pub(crate) fn read(file: &'a Gguf) -> Result<Self> {
        let model = file.string(MODEL)?.ok_or_else(|| file.missing(MODEL))?;
        if !["gpt2", "llama"].contains(&model) {
            let reason = format!("metadata `{MODEL}` is `{model}`; `gpt2` and `llama` can be read");
            return Err(file.error(reason));
        }
        let pre = file.string(PRE)?.unwrap_or("default");
        let tokens = file.strings(TOKENS)?.ok_or_else(|| file.missing(TOKENS))?;
        if tokens.is_empty() || u32::try_from(tokens.len()).is_err() {
            return Err(file.error(format!("metadata `{TOKENS}` holds {} tokens", tokens.len())));
        }
        let types = file.integers(TYPES)?.unwrap_or(vec![token_type::NORMAL; tokens.len()]);
        let vocabulary = Self { file, model, pre, tokens, types };
        vocabulary.check_length(TYPES, vocabulary.types.len())?;
        Ok(vocabulary)
    }

    /// The id under `key`, if the file has one.
    pub(crate) fn id(&self, key: &str) -> Result<Option<u32>> {
        let Some(id) = self.file.unsigned(key)? else { return Ok(None) };
        // -1 as 32 bits says in some files that there is none.
        if id == u64::from(u32::MAX) {
            return Ok(None);
        }
        let known = u32::try_from(id).ok().filter(|&id| (id as usize) < self.tokens.len());
        let n_tokens = self.tokens.len();
        let unknown = || format!("metadata `{key}` is {id}, and there are {n_tokens} tokens");
        known.map(Some).ok_or_else(|| self.file.error(unknown()))
    }

    /// Whether `id` is a token that only a program writes, such as the end of a turn.
    pub(crate) fn is_control(&self, id: usize) -> bool {
        matches!(self.types.get(id), Some(&(token_type::CONTROL | token_type::UNKNOWN)))
    }

    /// The same vocabulary as a Hugging Face `tokenizer.json`.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        let ids = self.ids()?;
        let [bos, eos] = self.added_around()?;
        let parts = match self.model {
            "llama" => self.sentence_piece(&ids)?,
            _ => self.byte_level(&ids)?,
        };
        let [normalizer, pre_tokenizer, decoder, model] = parts;
        let added = self.to_text(&self.added_tokens())?;
        let post_processor = self.post_processor(bos, eos);
        Ok(format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":{added},"normalizer":{normalizer},"pre_tokenizer":{pre_tokenizer},"post_processor":{post_processor},"decoder":{decoder},"model":{model}}}"#
        )
        .into_bytes())
    }

    /// The id of each token, all of which differ.
    fn ids(&self) -> Result<HashMap<&'a str, usize>> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, &token) in self.tokens.iter().enumerate() {
            if let Some(other) = ids.insert(token, id) {
                let reason = format!("tokens {other} and {id} are both `{}`", token.escape_debug());
                return Err(self.file.error(reason));
            }
        }
        Ok(ids)
    }

    /// BOS and EOS, where encoding adds them.
    fn added_around(&self) -> Result<[Option<u32>; 2]> {
        // What llama.cpp does where the file does not say.
        let adds_bos = self.model == "llama" || split::adds_bos(self.pre);
        let adds = |key, otherwise| Ok::<_, Error>(self.file.boolean(key)?.unwrap_or(otherwise));
        let bos = adds("tokenizer.ggml.add_bos_token", adds_bos)?;
        let eos = adds("tokenizer.ggml.add_eos_token", false)?;
        let [bos_id, eos_id] = self.bos_and_eos()?;
        Ok([bos_id.filter(|_| bos), eos_id.filter(|_| eos)])
    }

    /// The tokens that begin and end a text.
    pub(crate) fn bos_and_eos(&self) -> Result<[Option<u32>; 2]> {
        Ok([self.id("tokenizer.ggml.bos_token_id")?, self.id("tokenizer.ggml.eos_token_id")?])
    }

    /// Control tokens are special; those that a user defined are found in a text, no more.
    fn added_tokens(&self) -> Vec<Special<'a>> {
        let strips = self.strips_after_control_tokens();
        let added = self.tokens.iter().enumerate().filter(|&(id, token)| {
            let is_added = self.is_control(id) || self.types[id] == token_type::USER_DEFINED;
            is_added && !token.is_empty()
        });
        added
            .map(|(id, &token)| Special {
                id: id as u32,
                content: token,
                single_word: false,
                lstrip: false,
                rstrip: strips && self.is_control(id) && !PHI3_KEEPS.contains(&token),
                normalized: false,
                special: self.is_control(id),
            })
            .collect()
    }

    /// Phi-3's `tokenizer.json` drops blanks after its control tokens; GGUF has no word for it, so
    /// that llama.cpp, too, goes by the model's name.
    fn strips_after_control_tokens(&self) -> bool {
        let is_phi3 = |key| {
            let name = self.file.string(key).ok().flatten().unwrap_or_default().to_lowercase();
            name.contains("phi-3") || name.contains("phi3")
        };
        self.model == "llama" && (is_phi3("general.architecture") || is_phi3("general.name"))
    }

    fn byte_level(&self, ids: &HashMap<&str, usize>) -> Result<[String; 4]> {
        let pre_tokenizer = split::pre_tokenizer(self.pre).map_err(|known| {
            let pre = self.pre;
            self.file.error(format!("metadata `{PRE}` is `{pre}`; known are {known}"))
        })?;
        let merges = self.file.strings(MERGES)?.ok_or_else(|| self.file.missing(MERGES))?;
        let mut pairs = Vec::with_capacity(merges.len());
        for (index, merge) in merges.into_iter().enumerate() {
            let pair = split_merge(merge).filter(|&(left, right)| {
                let known = |token: &str| ids.contains_key(token);
                known(left) && known(right) && known(&[left, right].concat())
            });
            let wrong = || {
                let merge = merge.escape_debug();
                self.file.error(format!("metadata `{MERGES}`: element {index}, `{merge}`, does not join two tokens to a third"))
            };
            pairs.push(pair.ok_or_else(wrong)?);
        }
        let mut model = Model::byte_pairs(&self.tokens, pairs);
        model.ignore_merges = split::ignores_merges(self.pre);
        Ok(["null".to_owned(), pre_tokenizer, split::BYTE_LEVEL.to_owned(), self.to_text(&model)?])
    }

    fn sentence_piece(&self, ids: &HashMap<&str, usize>) -> Result<[String; 4]> {
        let scores = self.file.floats(SCORES)?.ok_or_else(|| self.file.missing(SCORES))?;
        self.check_length(SCORES, scores.len())?;
        let prefix = self.file.boolean("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let unknown = self.id("tokenizer.ggml.unknown_token_id")?.unwrap_or(0) as usize;
        let mut model = Model::byte_pairs(&self.tokens, self.scored_merges(ids, &scores));
        model.unk_token = self.tokens.get(unknown).copied();
        (model.fuse_unk, model.byte_fallback) = (true, true);
        let prepend = if prefix { r#"{"type":"Prepend","prepend":"▁"},"# } else { "" };
        let strip =
            if prefix { r#",{"type":"Strip","content":" ","start":1,"stop":0}"# } else { "" };
        let normalizer = format!(
            r#"{{"type":"Sequence","normalizers":[{prepend}{{"type":"Replace","pattern":{{"String":" "}},"content":"▁"}}]}}"#
        );
        let decoder = format!(
            r#"{{"type":"Sequence","decoders":[{{"type":"Replace","pattern":{{"String":"▁"}},"content":" "}},{{"type":"ByteFallback"}},{{"type":"Fuse"}}{strip}]}}"#
        );
        Ok([normalizer, "null".to_owned(), decoder, self.to_text(&model)?])
    }

    /// SentencePiece merges the pair whose union has the highest score; so every way to cut a piece
    /// into two others is a merge, in the order of the pieces' scores.
    fn scored_merges(&self, ids: &HashMap<&str, usize>, scores: &[f64]) -> Vec<(&'a str, &'a str)> {
        let is_normal =
            |token: &str| ids.get(token).is_some_and(|&id| self.types[id] == token_type::NORMAL);
        let mut merges = Vec::new();
        for (&token, &score) in self.tokens.iter().zip(scores) {
            if is_normal(token) {
                let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
                let cuts = cuts.filter(|&(left, right)| is_normal(left) && is_normal(right));
                merges.extend(cuts.map(|pair| (score, pair)));
            }
        }
        merges.sort_by(|(a, _), (b, _)| b.total_cmp(a)); // stable: equal scores keep their order
        merges.into_iter().map(|(_, pair)| pair).collect()
    }

    fn post_processor(&self, bos: Option<u32>, eos: Option<u32>) -> String {
        if bos.is_none() && eos.is_none() {
            return "null".to_owned();
        }
        let quoted = |id: u32| Json::from(self.tokens[id as usize]).to_string();
        let special =
            |id: u32| format!(r#"{{"SpecialToken":{{"id":{},"type_id":0}}}}"#, quoted(id));
        let sequence = |name| format!(r#"{{"Sequence":{{"id":"{name}","type_id":0}}}}"#);
        let around = |name| {
            let parts = [bos.map(special), Some(sequence(name)), eos.map(special)];
            parts.into_iter().flatten().collect::<Vec<_>>().join(",")
        };
        let mut tokens: Vec<u32> = bos.into_iter().chain(eos).collect();
        tokens.dedup();
        let described = tokens.into_iter().map(|id| {
            let token = quoted(id);
            format!(r#"{token}:{{"id":{token},"ids":[{id}],"tokens":[{token}]}}"#)
        });
        let described = described.collect::<Vec<_>>().join(",");
        let (single, pair) = (around("A"), [around("A"), around("B")].join(","));
        format!(
            r#"{{"type":"TemplateProcessing","single":[{single}],"pair":[{pair}],"special_tokens":{{{described}}}}}"#
        )
    }

    fn check_length(&self, key: &str, len: usize) -> Result<()> {
        let n_tokens = self.tokens.len();
        if len == n_tokens {
            return Ok(());
        }
        Err(self.file.error(format!("metadata `{key}` has {len} values for {n_tokens} tokens")))
    }

    fn to_text(&self, part: &impl serde::Serialize) -> Result<String> {
        serde_json::to_string(part).map_err(|error| self.file.error(error.to_string()))
    }
}

/// The two sides of a merge. A token may begin with a space in a file of another alphabet, so the
/// space that separates them is not the first character.
fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let at = first + merge[first..].find(' ')?;
    Some((&merge[..at], &merge[at + 1..]))
}

#[cfg(test)]
mod tests;
