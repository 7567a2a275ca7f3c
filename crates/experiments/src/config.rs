//! From a TOML file to a checked experiment: base, scale, arms, and what the user set.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use forerun_runs::verdict::Rule;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::catalog::Entry;
use crate::length::LengthConfig;
use crate::merge::{merge, set};

/// How much of an experiment to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Ends within a minute and shows nothing: it is what the tests run.
    Smoke,
    /// Fits two cores in the minutes that the configuration states.
    #[default]
    Small,
    /// The paper's own size, where the paper states it; for a GPU or a cluster.
    Paper,
}

impl Scale {
    fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Small => "small",
            Self::Paper => "paper",
        }
    }
}

/// What the command line changes about an experiment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Which scale to run.
    pub scale: Scale,
    /// `KEY=VALUE` assignments, in order.
    pub set: Vec<String>,
    /// The user's own text instead of the embedded one: files or globs.
    pub data: Vec<String>,
    /// Number of seeds.
    pub seeds: Option<u64>,
    /// Device, `cpu` or `cuda:N`.
    pub device: Option<String>,
}

/// A resolved experiment: what `config.toml` in a run directory holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// The name on the command line.
    pub name: String,
    /// Its one-line summary.
    pub summary: String,
    /// The scale it was resolved at.
    pub scale: Scale,
    /// The heading of the report.
    pub title: String,
    /// The paper whose claims it tests.
    pub paper: String,
    /// Minutes that it is allowed on two cores at this scale.
    pub minutes: f64,
    /// Seeds of every arm.
    pub seeds: u64,
    /// The one number that every random stream descends from.
    pub root_seed: u64,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// libtorch threads of one worker.
    pub threads: u32,
    /// The text it reads.
    pub data: DataConfig,
    /// How text becomes tokens.
    pub tokenizer: TokenizerConfig,
    /// Claims with their rules, written before the run.
    pub claims: Vec<Claim>,
    /// What this kind of experiment does.
    #[serde(flatten)]
    pub body: Body,
}

/// The kinds of experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Body {
    /// Trains models that differ in positions and norm, reads them beyond the training length.
    LengthExtrapolation(LengthConfig),
}

/// Where the text comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The name of an embedded text (`english`), unless `paths` are given.
    #[serde(default)]
    pub embedded: Option<String>,
    /// Files or globs: Parquet, JSONL (plain, `.gz`, `.zst`) or plain text.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    /// The column of text in Parquet or the key in JSONL; found if not named.
    #[serde(default)]
    pub column: Option<String>,
    /// Share of the user's text kept for validation, from its end; embedded texts have a book of their own for it.
    #[serde(default = "default_validation_fraction")]
    pub validation_fraction: f64,
}

fn default_validation_fraction() -> f64 {
    0.1
}

/// How text becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TokenizerConfig {
    /// One token a byte, and one for the end of a document.
    Bytes,
    /// A `tokenizer.json`.
    File {
        /// The file.
        path: PathBuf,
    },
    /// A byte-level BPE trained on the training text.
    Bpe {
        /// Tokens in all.
        vocab_size: u32,
    },
}

/// A statement that the run tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Short and stable, `rope-degrades`.
    pub name: String,
    /// The claim in a sentence, with its source.
    pub statement: String,
    /// What is measured.
    pub a: Measure,
    /// What it is compared with.
    pub b: Measure,
    /// The rule of the verdict.
    pub rule: Rule,
    /// Noise between seeds, for the detectable effect that `plan` prints; in the unit of the effect.
    pub seed_sd: f64,
}

/// One number a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// Name of the arm.
    pub arm: String,
    /// Name of the series, `nll/causal`.
    pub series: String,
    /// Where on the series: the abscissa, in multiples of the training length.
    pub at: f64,
    /// Subtract the same arm's causal value at the training length: how much is lost by going beyond it.
    #[serde(default)]
    pub beyond_training_length: bool,
}

impl Experiment {
    /// Resolves an experiment of the catalog.
    ///
    /// # Errors
    /// Names the field, the assignment or the scale that is wrong.
    pub fn resolve(entry: &Entry, overrides: &Overrides) -> Result<Self> {
        let mut table: Table =
            entry.toml.parse().with_context(|| format!("configs/{}.toml is not TOML", entry.name))?;
        apply_scale(&mut table, overrides.scale)?;
        insert(&mut table, "name", entry.name);
        insert(&mut table, "summary", entry.summary());
        insert(&mut table, "scale", overrides.scale.name());
        apply(&mut table, overrides)?;
        lay_arms_on_the_base(&mut table)?;
        let experiment: Self = table.try_into().with_context(|| format!("experiment `{}`", entry.name))?;
        experiment.validate()?;
        Ok(experiment)
    }

    /// Reads a resolved `config.toml` back.
    ///
    /// # Errors
    /// Says where the text is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let experiment: Self = toml::from_str(text)?;
        experiment.validate()?;
        Ok(experiment)
    }

    fn validate(&self) -> Result<()> {
        if self.seeds == 0 {
            bail!("seeds must be at least 1, got 0");
        }
        if self.threads == 0 {
            bail!("threads must be at least 1, got 0");
        }
        let fraction = self.data.validation_fraction;
        if !(fraction > 0.0 && fraction < 1.0) {
            bail!("data.validation_fraction must lie between 0 and 1, got {fraction}");
        }
        if self.data.paths.is_empty() == self.data.embedded.is_none() {
            bail!("data needs either `embedded` or `paths`");
        }
        for claim in &self.claims {
            claim.rule.validate().with_context(|| format!("claim `{}`", claim.name))?;
        }
        match &self.body {
            Body::LengthExtrapolation(body) => body.validate(self),
        }
    }
}

fn insert(table: &mut Table, key: &str, value: &str) {
    table.insert(key.to_owned(), Value::String(value.to_owned()));
}

fn apply_scale(table: &mut Table, scale: Scale) -> Result<()> {
    let Some(Value::Table(mut scales)) = table.remove("scale") else { return Ok(()) };
    let Some(Value::Table(over)) = scales.remove(scale.name()) else {
        bail!("this experiment has no scale `{}`", scale.name());
    };
    merge(table, &over);
    Ok(())
}

fn apply(table: &mut Table, overrides: &Overrides) -> Result<()> {
    if !overrides.data.is_empty() {
        let paths: Result<Vec<Value>> = overrides.data.iter().map(|path| absolute(path)).collect();
        let mut data = Table::new();
        data.insert("paths".to_owned(), Value::Array(paths?));
        table.insert("data".to_owned(), Value::Table(data));
    }
    if let Some(seeds) = overrides.seeds {
        let seeds = i64::try_from(seeds).context("--seeds is too large")?;
        table.insert("seeds".to_owned(), Value::Integer(seeds));
    }
    if let Some(device) = &overrides.device {
        insert(table, "device", device);
    }
    for assignment in &overrides.set {
        set(table, assignment)?;
    }
    Ok(())
}

/// A run directory must mean the same from any working directory.
fn absolute(path: &str) -> Result<Value> {
    let path = std::path::absolute(path).with_context(|| format!("--data {path}"))?;
    let text = path.to_str().with_context(|| format!("--data: `{}` is not UTF-8", path.display()))?;
    Ok(Value::String(text.to_owned()))
}

/// `[model]` and `[training]` are what every arm starts from; an arm's own tables are laid upon them.
fn lay_arms_on_the_base(table: &mut Table) -> Result<()> {
    let bases: Vec<(&str, Table)> = ["model", "training"]
        .into_iter()
        .filter_map(|key| Some((key, table.remove(key)?.as_table()?.clone())))
        .collect();
    let Some(Value::Array(arms)) = table.get_mut("arms") else { return Ok(()) };
    for arm in arms {
        let Value::Table(arm) = arm else { bail!("every item of `arms` is a table") };
        for (key, base) in &bases {
            let mut whole = base.clone();
            if let Some(Value::Table(own)) = arm.get(*key) {
                merge(&mut whole, own);
            }
            if *key == "model" {
                // The tokenizer knows it; see `length::plan`.
                whole.entry("vocab_size").or_insert(Value::Integer(0));
            }
            arm.insert((*key).to_owned(), Value::Table(whole));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
