//! Training a byte-level BPE vocabulary.
//!
//! Sennrich et al. 2016, arXiv:1508.07909, algorithm 1, over the words and the byte alphabet of
//! GPT-2 (Radford et al. 2019). Ids 0 to 255 are the bytes themselves and 256 is `<|endoftext|>`,
//! as in [`Tokenizer::bytes`]; merges follow from 257 on. Of equally frequent pairs the one with
//! the smaller ids is merged first, and counts are exact, so that the vocabulary depends on the
//! words and their counts alone: not on threads, on hashing or on the order of texts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use rayon::prelude::*;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{PreTokenizedString, PreTokenizer};
use tokenizers::{OffsetReferential, OffsetType};

use crate::byte_level;
use crate::error::{Error, Result, ensure};
use crate::tokenizer::Tokenizer;

const END_OF_DOCUMENT: &str = "<|endoftext|>";
/// Bytes and the end of a document.
const N_BASE: u32 = 257;
/// Bytes of text that are counted at once.
const BATCH_BYTES: usize = 8 << 20;

/// What to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BpeConfig {
    /// Ids in all, at least 257; fewer come out if the text runs out of pairs.
    pub vocab_size: u32,
    /// A pair that is rarer than this is not merged; at least 1.
    pub min_frequency: u64,
}

type Pair = (u32, u32);

/// Trains a vocabulary on `texts`, such as [`documents`](crate::documents()), whose words and
/// counts are kept in memory, not their text.
///
/// # Errors
/// The first error among `texts`; [`Error::Config`] for a vocabulary below 257 or a `min_frequency`
/// of 0, or if `texts` hold nothing at all.
pub fn train_bpe<T: AsRef<str> + Sync>(
    texts: impl IntoIterator<Item = Result<T>>,
    config: &BpeConfig,
) -> Result<Tokenizer> {
    let &BpeConfig { vocab_size, min_frequency } = config;
    let largest = 1 << 24;
    let allowed = format!("from {N_BASE} to {largest}");
    ensure((N_BASE..=largest).contains(&vocab_size), "vocab_size", allowed, vocab_size)?;
    ensure(min_frequency > 0, "min_frequency", "positive", min_frequency)?;
    let words = count_words(texts)?;
    ensure(!words.is_empty(), "texts", "at least one word", "none")?;
    let merges = merge(words, config);
    Tokenizer::from_json(tokenizer_json(&merges)?, "trained byte-level BPE")
}

/// Words in the byte alphabet, with their counts.
fn count_words<T: AsRef<str> + Sync>(
    texts: impl IntoIterator<Item = Result<T>>,
) -> Result<BTreeMap<Vec<u8>, u64>> {
    let (mut counts, mut batch, mut n_bytes) = (HashMap::new(), Vec::new(), 0);
    for text in texts {
        let text = text?;
        n_bytes += text.as_ref().len();
        batch.push(text);
        if n_bytes >= BATCH_BYTES {
            count_batch(&batch, &mut counts)?;
            (batch, n_bytes) = (Vec::new(), 0);
        }
    }
    count_batch(&batch, &mut counts)?;
    Ok(counts.into_iter().collect())
}

fn count_batch<T: AsRef<str> + Sync>(
    batch: &[T],
    counts: &mut HashMap<Vec<u8>, u64>,
) -> Result<()> {
    let counted: Vec<_> = batch.par_iter().map(|text| words_of(text.as_ref())).collect();
    for words in counted {
        for (word, count) in words? {
            *counts.entry(word).or_default() += count;
        }
    }
    Ok(())
}

/// Splits with the very code that will split when the tokenizer is used.
fn words_of(text: &str) -> Result<HashMap<Vec<u8>, u64>> {
    let mut split = PreTokenizedString::from(text);
    ByteLevel::new(false, true, true)
        .pre_tokenize(&mut split)
        .map_err(|error| Error::tokenizer("byte-level BPE", error))?;
    let mut words = HashMap::new();
    for (word, _, _) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
        *words.entry(byte_level::to_bytes(word)).or_default() += 1;
    }
    Ok(words)
}

/// The merges in order, each with the id that it makes and the bytes of that id.
#[derive(Debug, PartialEq)]
struct Merges {
    pairs: Vec<Pair>,
    /// Bytes of each id; empty for the end of a document.
    tokens: Vec<Vec<u8>>,
}

struct Word {
    ids: Vec<u32>,
    count: u64,
}

fn merge(words: BTreeMap<Vec<u8>, u64>, config: &BpeConfig) -> Merges {
    let word = |(bytes, count): (Vec<u8>, u64)| Word {
        ids: bytes.into_iter().map(u32::from).collect(),
        count,
    };
    let mut words: Vec<Word> = words.into_iter().map(word).collect();
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    tokens.push(Vec::new());
    let mut ids: HashMap<Vec<u8>, u32> = (0..).zip(tokens.iter().cloned()).map(swap).collect();
    let mut table = PairTable::default();
    for (index, word) in words.iter().enumerate() {
        table.add(index, word);
    }

    let mut pairs = Vec::new();
    while tokens.len() < config.vocab_size as usize {
        let Some((pair, count)) = table.most_frequent() else { break };
        if count < config.min_frequency {
            break;
        }
        let bytes = [tokens[pair.0 as usize].as_slice(), &tokens[pair.1 as usize]].concat();
        // Two different pairs may spell the same token, which then is one id.
        let new = *ids.entry(bytes).or_insert_with_key(|bytes| {
            tokens.push(bytes.clone());
            tokens.len() as u32 - 1
        });
        pairs.push(pair);
        for index in table.words_with(pair) {
            table.remove(&words[index]);
            merge_in(&mut words[index].ids, pair, new);
            table.add(index, &words[index]);
        }
    }
    Merges { pairs, tokens }
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// Replaces `pair` by `new` from left to right.
fn merge_in(ids: &mut Vec<u32>, pair: Pair, new: u32) {
    let mut write = 0;
    let mut read = 0;
    while read < ids.len() {
        let is_pair = ids[read] == pair.0 && ids.get(read + 1) == Some(&pair.1);
        ids[write] = if is_pair { new } else { ids[read] };
        read += 1 + usize::from(is_pair);
        write += 1;
    }
    ids.truncate(write);
}

/// How often each pair occurs, and where.
#[derive(Default)]
struct PairTable {
    counts: HashMap<Pair, u64>,
    /// Words that held the pair at some time; they need not any more.
    words: HashMap<Pair, Vec<usize>>,
    /// Every pair with its count, beside entries that are out of date.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl PairTable {
    fn add(&mut self, index: usize, word: &Word) {
        for pair in pairs_of(word) {
            let count = self.counts.entry(pair).or_default();
            *count += word.count;
            self.queue.push((*count, Reverse(pair)));
            let words = self.words.entry(pair).or_default();
            if words.last() != Some(&index) {
                words.push(index);
            }
        }
    }

    fn remove(&mut self, word: &Word) {
        for pair in pairs_of(word) {
            if let Some(count) = self.counts.get_mut(&pair) {
                *count -= word.count;
            }
        }
    }

    /// The pair with the highest count above 0.
    fn most_frequent(&mut self) -> Option<(Pair, u64)> {
        while let Some((queued, Reverse(pair))) = self.queue.pop() {
            let count = self.counts.get(&pair).copied().unwrap_or_default();
            if count == queued && count > 0 {
                return Some((pair, count));
            }
            // Counts fall without a new entry, so an entry that is too high returns with what is
            // true now.
            if 0 < count && count < queued {
                self.queue.push((count, Reverse(pair)));
            }
        }
        None
    }

    fn words_with(&mut self, pair: Pair) -> Vec<usize> {
        let mut words = self.words.remove(&pair).unwrap_or_default();
        words.sort_unstable();
        words.dedup();
        words
    }
}

fn pairs_of(word: &Word) -> impl Iterator<Item = Pair> {
    word.ids.windows(2).map(|pair| (pair[0], pair[1]))
}

/// The parts of a `tokenizer.json` that a byte-level BPE needs, in the order in which they are
/// written.
#[derive(Serialize)]
struct Json<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: [Special<'a>; 1],
    normalizer: (),
    pre_tokenizer: ByteLevelJson,
    post_processor: (),
    decoder: ByteLevelJson,
    model: Model<'a>,
}

/// A token that is found in a text before anything else happens to it.
#[derive(Serialize)]
pub(crate) struct Special<'a> {
    pub(crate) id: u32,
    pub(crate) content: &'a str,
    pub(crate) single_word: bool,
    pub(crate) lstrip: bool,
    pub(crate) rstrip: bool,
    pub(crate) normalized: bool,
    /// Whether it is left out of decoded texts.
    pub(crate) special: bool,
}

#[derive(Clone, Copy, Serialize)]
struct ByteLevelJson {
    r#type: &'static str,
    add_prefix_space: bool,
    trim_offsets: bool,
    use_regex: bool,
}

/// The tokens and merges of a BPE.
#[derive(Serialize)]
pub(crate) struct Model<'a> {
    r#type: &'static str,
    dropout: (),
    pub(crate) unk_token: Option<&'a str>,
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    pub(crate) fuse_unk: bool,
    pub(crate) byte_fallback: bool,
    pub(crate) ignore_merges: bool,
    #[serde(serialize_with = "by_id")]
    vocab: &'a [&'a str],
    merges: Vec<(&'a str, &'a str)>,
}

impl<'a> Model<'a> {
    /// Tokens in the order of their ids, merges in the order in which they are made.
    pub(crate) fn byte_pairs(vocab: &'a [&'a str], merges: Vec<(&'a str, &'a str)>) -> Self {
        Self {
            r#type: "BPE",
            dropout: (),
            unk_token: None,
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            vocab,
            merges,
        }
    }
}

/// Writes the vocabulary in the order of its ids, whatever features serde_json was built with.
fn by_id<S: Serializer>(vocab: &&[&str], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(vocab.len()))?;
    for (id, token) in vocab.iter().enumerate() {
        map.serialize_entry(token, &id)?;
    }
    map.end()
}

fn tokenizer_json(merges: &Merges) -> Result<Vec<u8>> {
    let tokens: Vec<String> = merges.tokens.iter().map(|t| byte_level::to_text(t)).collect();
    let mut vocab: Vec<&str> = tokens.iter().map(String::as_str).collect();
    vocab[N_BASE as usize - 1] = END_OF_DOCUMENT;
    let text = |id: u32| vocab[id as usize];
    let pairs = merges.pairs.iter().map(|&(a, b)| (text(a), text(b))).collect();
    let byte_level = ByteLevelJson {
        r#type: "ByteLevel",
        add_prefix_space: false,
        trim_offsets: true,
        use_regex: true,
    };
    let json = Json {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens: [Special {
            id: N_BASE - 1,
            content: END_OF_DOCUMENT,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }],
        normalizer: (),
        pre_tokenizer: byte_level,
        post_processor: (),
        decoder: byte_level,
        model: Model::byte_pairs(&vocab, pairs),
    };
    serde_json::to_vec(&json).map_err(|error| Error::tokenizer("byte-level BPE", error))
}

#[cfg(test)]
mod tests;
