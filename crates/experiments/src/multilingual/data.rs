//! The families' texts: one set of shards for each, and a vocabulary that is trained on as much of every family.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use forerun_runs::atomic::{read_json, sha256_hex, write_atomic, write_json};
use forerun_runs::manifest;
use forerun_tokens::{BpeConfig, TextSource, Tokenizer, build_or_reuse, documents, train_bpe};

use super::{FamilyConfig, MixtureConfig};
use crate::config::{Experiment, TokenizerConfig};
use crate::data::{Group, Input, Prepared, manifest_input, split, utf8, whole};

/// The name of the embedded text.
const EMBEDDED: &str = "multilingual";
/// Its files, one for each licence, with columns `text`, `family` and `split`.
const FILES: [(&str, &[u8]); 2] = [
    ("help", include_bytes!("../../assets/multilingual/mpl-2.0/help.parquet")),
    ("user-docs", include_bytes!("../../assets/multilingual/cc-by-sa-3.0/user-docs.parquet")),
];

/// Makes the families' shards in `cache`, or finds those of an earlier run.
///
/// # Errors
/// What the text, the tokenizer or the disk has wrong, with file and row.
pub(crate) fn prepare(
    experiment: &Experiment,
    body: &MixtureConfig,
    cache: &Path,
) -> Result<Prepared> {
    let (files, sources) = match &experiment.data.embedded {
        Some(name) => embedded(name, cache)?,
        None => own(experiment)?,
    };
    let texts: Vec<Text> =
        body.families.iter().map(|family| Text::new(experiment, &files, family)).collect();
    let counted: Vec<Characters> =
        texts.iter().map(|text| text.characters(cache)).collect::<Result<_>>()?;
    let (tokenizer, file) = tokenizer(&experiment.tokenizer, &texts, &counted, cache)?;
    let groups: Vec<Group> = texts
        .iter()
        .zip(&counted)
        .map(|(text, characters)| text.group(*characters, &tokenizer, cache))
        .collect::<Result<_>>()?;
    let first = groups.first().context("`families` is empty")?;
    Ok(Prepared {
        vocab_size: i64::from(tokenizer.vocab_size()),
        tokenizer: file,
        train: first.train.clone(),
        validation: first.validation.clone(),
        sources,
        groups,
    })
}

fn embedded(name: &str, cache: &Path) -> Result<(Vec<String>, Vec<manifest::Input>)> {
    if name != EMBEDDED {
        bail!("data.embedded: `{name}` has no families; the text that has them is `{EMBEDDED}`");
    }
    let (mut files, mut sources) = (Vec::new(), Vec::new());
    for (part, bytes) in FILES {
        let hash = sha256_hex(bytes);
        let path = cache.join(format!("{EMBEDDED}-{part}-{}.parquet", &hash[..16]));
        if !path.is_file() {
            write_atomic(&path, bytes)?;
        }
        files.push(utf8(&path)?);
        sources.push(manifest::Input {
            role: "text".to_owned(),
            path: format!("embedded:{EMBEDDED}/{part}"),
            bytes: bytes.len() as u64,
            sha256: hash,
        });
    }
    Ok((files, sources))
}

/// The user's own files, which need a column `family` too.
fn own(experiment: &Experiment) -> Result<(Vec<String>, Vec<manifest::Input>)> {
    let files: Vec<String> =
        experiment.data.paths.iter().map(|path| utf8(path)).collect::<Result<_>>()?;
    let source = TextSource { paths: files.clone(), ..TextSource::default() };
    let inputs = source.files()?.iter().map(|file| manifest_input(file)).collect::<Result<_>>()?;
    Ok((files, inputs))
}

/// One family's documents.
struct Text {
    name: String,
    train: TextSource,
    /// Absent: the end of `train` is kept for it.
    validation: Option<TextSource>,
    /// Share of `train` that is trained on, from its beginning.
    training_share: f64,
    validation_fraction: f64,
}

/// Characters of a family's text, to train on and to measure.
#[derive(Clone, Copy)]
struct Characters {
    train: u64,
    /// All that the tokens per character of held-out text are counted on.
    validation: u64,
}

impl Text {
    fn new(experiment: &Experiment, files: &[String], family: &FamilyConfig) -> Self {
        let data = &experiment.data;
        let source = |split: Option<&str>| {
            let split = split.map(|split| ("split".to_owned(), split.to_owned()));
            let family = ("family".to_owned(), family.name.clone());
            TextSource {
                paths: files.to_vec(),
                column: data.column.clone(),
                filter: split.into_iter().chain([family]).collect(),
            }
        };
        let name = family.name.clone();
        let validation_fraction = data.validation_fraction;
        match data.embedded {
            Some(_) => Self {
                name,
                train: source(Some("train")),
                validation: Some(source(Some("validation"))),
                training_share: 1.0,
                validation_fraction,
            },
            None => Self {
                name,
                train: source(None),
                validation: None,
                training_share: 1.0 - validation_fraction,
                validation_fraction,
            },
        }
    }

    /// Counted once for each text that there is.
    fn characters(&self, cache: &Path) -> Result<Characters> {
        let count = |source: &TextSource| -> Result<u64> {
            let path = cache.join(format!("characters-{}.json", &source.hash()?[..16]));
            if path.is_file() {
                return Ok(read_json(&path)?);
            }
            let mut n = 0;
            for document in documents(source)? {
                n += document?.text.chars().count() as u64;
            }
            write_json(&path, &n)?;
            Ok(n)
        };
        let all = count(&self.train).with_context(|| format!("families.{}", self.name))?;
        let train = (all as f64 * self.training_share) as u64;
        let validation = self.validation.as_ref().map_or(Ok(all), count)?;
        Ok(Characters { train, validation })
    }

    fn group(&self, characters: Characters, tokenizer: &Tokenizer, cache: &Path) -> Result<Group> {
        let train = build_or_reuse(cache, &self.train, tokenizer)?;
        let (train, validation, counted) = match &self.validation {
            Some(validation) => {
                let validation = whole(&build_or_reuse(cache, validation, tokenizer)?)?;
                let counted = validation.n_tokens;
                (whole(&train)?, validation, counted)
            }
            None => {
                let (kept, held_out) = split(&train, self.validation_fraction)?;
                (kept, held_out, train.n_tokens())
            }
        };
        Ok(Group {
            name: self.name.clone(),
            train,
            validation,
            characters: characters.train,
            characters_per_token: characters.validation as f64 / counted as f64,
        })
    }
}

fn tokenizer(
    config: &TokenizerConfig,
    texts: &[Text],
    counted: &[Characters],
    cache: &Path,
) -> Result<(Tokenizer, Option<Input>)> {
    let tokenizer = match config {
        TokenizerConfig::Model => bail!("tokenizer.kind: `model` is for experiments on one model"),
        TokenizerConfig::Bytes => return Ok((Tokenizer::bytes(), None)),
        TokenizerConfig::File { path } => Tokenizer::from_file(path)?,
        TokenizerConfig::Bpe { vocab_size } => balanced(texts, counted, *vocab_size, cache)?,
    };
    // A copy, so that a run does not depend on a file that somebody may edit.
    let path = cache.join(format!("tokenizer-{}.json", &tokenizer.hash()[..16]));
    tokenizer.save(&path)?;
    let input = Input { path, hash: tokenizer.hash().to_owned(), tokens: None };
    Ok((tokenizer, Some(input)))
}

/// A vocabulary trained on equally many characters of every family's training text, to within a document: as many as the
/// scarcest has.
fn balanced(
    texts: &[Text],
    counted: &[Characters],
    vocab_size: u32,
    cache: &Path,
) -> Result<Tokenizer> {
    let each = counted.iter().map(|characters| characters.train).min().unwrap_or(0);
    let hashes: Vec<String> =
        texts.iter().map(|text| Ok(text.train.hash()?)).collect::<Result<_>>()?;
    let key = sha256_hex(format!("bpe-balanced/1/{vocab_size}/{each}/{hashes:?}").as_bytes());
    let path = cache.join(format!("bpe-{}.json", &key[..16]));
    if path.is_file() {
        return Ok(Tokenizer::from_file(&path)?);
    }
    let mut sample = Vec::new();
    for (text, characters) in texts.iter().zip(counted) {
        evenly(text, characters.train, each, &mut sample)?;
    }
    let tokenizer = train_bpe(sample, &BpeConfig { vocab_size, min_frequency: 2 })?;
    tokenizer.save(&path)?;
    Ok(tokenizer)
}

/// Adds `wanted` of a family's `there` characters to `sample`, whole documents from all over its text; no others than are
/// trained on.
fn evenly(
    text: &Text,
    there: u64,
    wanted: u64,
    sample: &mut Vec<forerun_tokens::Result<String>>,
) -> Result<()> {
    let ratio = wanted as f64 / there.max(1) as f64;
    let (mut seen, mut taken) = (0, 0);
    for document in documents(&text.train)? {
        let document = document?.text;
        let n = document.chars().count() as u64;
        if seen + n > there {
            break;
        }
        seen += n;
        if (taken as f64) < ratio * seen as f64 {
            taken += n;
            sample.push(Ok(document));
        }
    }
    Ok(())
}

/// The inputs of a training, by the names under which it asks for them.
pub(super) fn inputs(groups: &[Group]) -> BTreeMap<String, Input> {
    let pair = |group: &Group| {
        [
            (train_input(&group.name), group.train.input.clone()),
            (held_out_input(&group.name), group.validation.input.clone()),
        ]
    };
    groups.iter().flat_map(pair).collect()
}

pub(super) fn train_input(family: &str) -> String {
    format!("train/{family}")
}

pub(super) fn held_out_input(family: &str) -> String {
    format!("validation/{family}")
}
