//! Text for cells: from the configuration's source to token shards on disk, split into training and validation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use forerun_runs::atomic::{sha256_file, sha256_hex, write_atomic};
use forerun_runs::manifest;
use forerun_tokens::{
    BpeConfig, Packed, Shards, TextSource, Tokenizer, build_or_reuse, documents, train_bpe,
};
use serde::{Deserialize, Serialize};

use crate::config::{Body, Experiment, TokenizerConfig};
use crate::multilingual;
use crate::plan::quantity;

/// Texts that are compiled in: name, and a Parquet file with a `text` and a `split` column.
const EMBEDDED: &[(&str, &[u8])] =
    &[("english", include_bytes!("../assets/english/books.parquet"))];

/// A file that a cell reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where it lies; not part of a cell's key.
    pub path: PathBuf,
    /// SHA-256 of what it holds.
    pub hash: String,
    /// The part of its tokens that is meant, first and end; all if absent.
    pub tokens: Option<[u64; 2]>,
}

/// A text as tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The shards, and which of their tokens.
    pub input: Input,
    /// How many those are.
    pub n_tokens: u64,
}

/// Everything that the cells of an experiment read.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Token ids are below this.
    pub vocab_size: i64,
    /// `tokenizer.json`; bytes need none.
    pub tokenizer: Option<Input>,
    /// Text to train on.
    pub train: Part,
    /// Text that nothing trains on.
    pub validation: Part,
    /// The files that it was made from, for the manifest.
    pub sources: Vec<manifest::Input>,
    /// The texts of an experiment that mixes several, in the order of its configuration; `train` and `validation` are
    /// then those of the first. Empty for others.
    pub groups: Vec<Group>,
}

/// One of several texts that an experiment mixes.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The configuration's name for it.
    pub name: String,
    /// Text to train on.
    pub train: Part,
    /// Text that nothing trains on.
    pub validation: Part,
    /// Characters of the training text.
    pub characters: u64,
    /// Characters of held-out text for each of its tokens, ends of documents among them.
    pub characters_per_token: f64,
}

impl Prepared {
    /// The inputs of a cell, by the names under which the cell asks for them.
    pub fn inputs(&self) -> BTreeMap<String, Input> {
        let mut inputs = BTreeMap::from([
            ("train".to_owned(), self.train.input.clone()),
            ("validation".to_owned(), self.validation.input.clone()),
        ]);
        if let Some(tokenizer) = &self.tokenizer {
            inputs.insert("tokenizer".to_owned(), tokenizer.clone());
        }
        inputs
    }

    /// Two lines for a plan, or one for each text that is mixed.
    pub fn describe(&self) -> String {
        let group = |group: &Group| {
            let Group { name, train, validation, characters, .. } = group;
            let [train, validation, characters] =
                [train.n_tokens, validation.n_tokens, *characters].map(|n| quantity(n as f64));
            format!(
                "  {name:<14} {} tokens, {} characters; {} tokens held out",
                train.trim_end(),
                characters.trim_end(),
                validation.trim_end()
            )
        };
        if !self.groups.is_empty() {
            return self.groups.iter().map(group).collect::<Vec<_>>().join("\n");
        }
        format!(
            "  {:<12} {} tokens of a vocabulary of {}\n  {:<12} {} tokens",
            "training",
            quantity(self.train.n_tokens as f64).trim_end(),
            self.vocab_size,
            "validation",
            quantity(self.validation.n_tokens as f64).trim_end()
        )
    }
}

/// Makes the token shards of an experiment below `runs_dir`, or finds those of an earlier run.
///
/// # Errors
/// What the text, the tokenizer or the disk has wrong, with file and row.
pub(crate) fn prepare(experiment: &Experiment, runs_dir: &Path) -> Result<Prepared> {
    let cache = runs_dir.join("data");
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("cannot make `{}`", cache.display()))?;
    if let Body::MultilingualMixture(body) = &experiment.body {
        return multilingual::prepare(experiment, body, &cache);
    }
    let text = Text::find(experiment, &cache)?;
    let (tokenizer, file) = match (&experiment.tokenizer, &experiment.body) {
        (TokenizerConfig::Model, Body::Quantization(body)) => body.tokenizer(&cache)?,
        (config, _) => tokenizer(config, &text, &cache)?,
    };
    let shards = |source: &TextSource| build_or_reuse(&cache, source, &tokenizer);
    let (train, validation) = match &text.validation {
        Some(validation) => (whole(&shards(&text.train)?)?, whole(&shards(validation)?)?),
        None => split(&shards(&text.train)?, experiment.data.validation_fraction)?,
    };
    let mut sources = text.sources;
    if let Body::Quantization(body) = &experiment.body {
        sources.extend(body.sources()?);
    }
    Ok(Prepared {
        vocab_size: i64::from(tokenizer.vocab_size()),
        tokenizer: file,
        train,
        validation,
        sources,
        groups: Vec::new(),
    })
}

/// Opens a prepared text as rows of `seq_len` predicted tokens.
pub(crate) fn open_packed(
    inputs: &BTreeMap<String, Input>,
    name: &str,
    seq_len: usize,
) -> Result<Packed> {
    let input = inputs.get(name).with_context(|| format!("the cell has no input `{name}`"))?;
    let packed = Packed::new(Arc::new(Shards::open(&input.path)?), seq_len)?;
    match input.tokens {
        Some([first, end]) => Ok(packed.part(first..end)?),
        None => Ok(packed),
    }
}

/// Opens the tokenizer of a cell.
pub(crate) fn open_tokenizer(inputs: &BTreeMap<String, Input>) -> Result<Tokenizer> {
    match inputs.get("tokenizer") {
        Some(input) => Ok(Tokenizer::from_file(&input.path)?),
        None => Ok(Tokenizer::bytes()),
    }
}

/// The experiment's text, still as text.
struct Text {
    train: TextSource,
    /// Absent: the end of `train` is kept for it.
    validation: Option<TextSource>,
    /// Share of `train` that is trained on, from its beginning.
    training_share: f64,
    sources: Vec<manifest::Input>,
}

impl Text {
    fn find(experiment: &Experiment, cache: &Path) -> Result<Self> {
        let data = &experiment.data;
        if let Some(name) = &data.embedded {
            return Self::embedded(name, cache);
        }
        let paths: Result<Vec<String>> = data.paths.iter().map(|path| utf8(path)).collect();
        let train =
            TextSource { paths: paths?, column: data.column.clone(), filter: BTreeMap::new() };
        let sources =
            train.files()?.iter().map(|file| manifest_input(file)).collect::<Result<_>>()?;
        Ok(Self {
            train,
            validation: None,
            training_share: 1.0 - data.validation_fraction,
            sources,
        })
    }

    fn embedded(name: &str, cache: &Path) -> Result<Self> {
        let bytes = embedded(name)?;
        let (path, hash) = (write_embedded(name, cache)?, sha256_hex(bytes));
        let part = |split: &str| -> Result<TextSource> {
            let filter = BTreeMap::from([("split".to_owned(), split.to_owned())]);
            Ok(TextSource { paths: vec![utf8(&path)?], column: Some("text".to_owned()), filter })
        };
        let source = manifest::Input {
            role: "text".to_owned(),
            path: format!("embedded:{name}"),
            bytes: bytes.len() as u64,
            sha256: hash,
        };
        let (train, validation) = (part("train")?, Some(part("validation")?));
        Ok(Self { train, validation, training_share: 1.0, sources: vec![source] })
    }
}

/// The bytes of an embedded text, a Parquet file.
fn embedded(name: &str) -> Result<&'static [u8]> {
    let Some((_, bytes)) = EMBEDDED.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = EMBEDDED.iter().map(|(known, _)| *known).collect();
        bail!("data.embedded: no text is called `{name}`; there are: {}", names.join(", "));
    };
    Ok(bytes)
}

/// Writes an embedded text to the folder `cache`, unless it is there; where it lies.
pub(crate) fn write_embedded(name: &str, cache: &Path) -> Result<PathBuf> {
    let bytes = embedded(name)?;
    let path = cache.join(format!("{name}-{}.parquet", &sha256_hex(bytes)[..16]));
    if !path.is_file() {
        write_atomic(&path, bytes)?;
    }
    Ok(path)
}

pub(crate) fn utf8(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("`{}` is not UTF-8", path.display()))
}

pub(crate) fn manifest_input(file: &Path) -> Result<manifest::Input> {
    input_as("text", file)
}

/// A file in the manifest, with what it is to the run.
pub(crate) fn input_as(role: &str, file: &Path) -> Result<manifest::Input> {
    let bytes = file.metadata().with_context(|| format!("cannot read `{}`", file.display()))?.len();
    Ok(manifest::Input {
        role: role.to_owned(),
        path: file.display().to_string(),
        bytes,
        sha256: sha256_file(file)?,
    })
}

fn tokenizer(
    config: &TokenizerConfig,
    text: &Text,
    cache: &Path,
) -> Result<(Tokenizer, Option<Input>)> {
    let tokenizer = match config {
        TokenizerConfig::Bytes => return Ok((Tokenizer::bytes(), None)),
        TokenizerConfig::Model => bail!("tokenizer.kind: `model` is for experiments on one model"),
        TokenizerConfig::File { path } => Tokenizer::from_file(path)?,
        TokenizerConfig::Bpe { vocab_size } => trained(text, *vocab_size, cache)?,
    };
    // A copy, so that a run does not depend on a file that somebody may edit.
    let path = cache.join(format!("tokenizer-{}.json", &tokenizer.hash()[..16]));
    tokenizer.save(&path)?;
    let input = Input { path, hash: tokenizer.hash().to_owned(), tokens: None };
    Ok((tokenizer, Some(input)))
}

/// Trained on the text that models are trained on, and no other.
fn trained(text: &Text, vocab_size: u32, cache: &Path) -> Result<Tokenizer> {
    let Text { train, training_share, .. } = text;
    let key =
        sha256_hex(format!("bpe/2/{vocab_size}/{training_share}/{}", train.hash()?).as_bytes());
    let path = cache.join(format!("bpe-{}.json", &key[..16]));
    if path.is_file() {
        return Ok(Tokenizer::from_file(&path)?);
    }
    let mut bytes_left = u64::MAX;
    if *training_share < 1.0 {
        let mut bytes = 0;
        for document in documents(train)? {
            bytes += document?.text.len() as u64;
        }
        bytes_left = (bytes as f64 * training_share) as u64;
    }
    let texts = documents(train)?
        .map(|document| document.map(|document| cut(document.text, &mut bytes_left)));
    let tokenizer = train_bpe(texts, &BpeConfig { vocab_size, min_frequency: 2 })?;
    tokenizer.save(&path)?;
    Ok(tokenizer)
}

/// At most `bytes_left` bytes of a text, which are taken from it.
fn cut(mut text: String, bytes_left: &mut u64) -> String {
    let mut end = usize::try_from(*bytes_left).unwrap_or(usize::MAX).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    *bytes_left -= (end as u64).min(*bytes_left);
    text
}

pub(crate) fn whole(shards: &Shards) -> Result<Part> {
    let input =
        Input { path: std::path::absolute(shards.path())?, hash: shards.hash(), tokens: None };
    Ok(Part { input, n_tokens: shards.n_tokens() })
}

/// Keeps the end of the text for validation, whether it is one long document or many.
pub(crate) fn split(shards: &Shards, fraction: f64) -> Result<(Part, Part)> {
    let all = whole(shards)?;
    let border = (all.n_tokens as f64 * (1.0 - fraction)) as u64;
    let part = |first: u64, end: u64| Part {
        input: Input { tokens: Some([first, end]), ..all.input.clone() },
        n_tokens: end - first,
    };
    Ok((part(0, border), part(border, all.n_tokens)))
}
