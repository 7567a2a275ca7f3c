//! From a TOML file to a checked experiment: base, scale, arms, and what the user set.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use forerun_runs::verdict::Rule;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::body;
use crate::catalog::Entry;
use crate::merge::{merge, set};

pub use crate::body::Body;

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

impl Overrides {
    /// The options as they are typed, words with special characters quoted.
    fn arguments(&self) -> Vec<String> {
        let scale =
            (self.scale != Scale::default()).then(|| ("--scale", self.scale.name().to_owned()));
        let seeds = self.seeds.map(|seeds| ("--seeds", seeds.to_string()));
        let device = self.device.clone().map(|device| ("--device", device));
        let data = self.data.iter().map(|path| ("--data", path.clone()));
        let set = self.set.iter().map(|assignment| ("--set", assignment.clone()));
        let options = scale.into_iter().chain(seeds).chain(device).chain(data).chain(set);
        options.flat_map(|(option, value)| [option.to_owned(), quoted(&value)]).collect()
    }
}

/// A word as a POSIX shell wants it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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
    /// The options of the command line that led here, to be shown; they decide nothing.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// What this kind of experiment does.
    #[serde(flatten)]
    pub body: Body,
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
    /// That of the model that the experiment is about.
    Model,
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
    /// What it is compared with; with zero if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<Measure>,
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
    /// Where on the series: the abscissa, for lengths in multiples of the training length.
    pub at: f64,
    /// Subtract the same arm's causal value at the training length: how much is lost by going beyond it.
    #[serde(default)]
    pub beyond_training_length: bool,
}

impl Claim {
    /// Everything that it measures.
    pub(crate) fn measures(&self) -> impl Iterator<Item = &Measure> {
        std::iter::once(&self.a).chain(&self.b)
    }
}

impl Experiment {
    /// Resolves an experiment of the catalog.
    ///
    /// # Errors
    /// Names the field, the assignment or the scale that is wrong.
    pub fn resolve(entry: &Entry, overrides: &Overrides) -> Result<Self> {
        let mut table: Table = entry
            .toml
            .parse()
            .with_context(|| format!("configs/{}.toml is not TOML", entry.name))?;
        apply_scale(&mut table, overrides.scale)?;
        insert(&mut table, "name", entry.name);
        insert(&mut table, "summary", entry.summary());
        insert(&mut table, "scale", overrides.scale.name());
        apply(&mut table, overrides)?;
        lay_arms_on_the_base(&mut table)?;
        let mut experiment = Self::from_table(table)?;
        experiment.arguments = overrides.arguments();
        experiment.make_paths_absolute()?;
        experiment.validate()?;
        Ok(experiment)
    }

    /// Reads a resolved `config.toml` back.
    ///
    /// # Errors
    /// Says where the text is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let experiment = Self::from_table(text.parse()?).context(OTHER_SETTINGS)?;
        experiment.validate()?;
        Ok(experiment)
    }

    /// The same settings with other words around them: what `--resume` goes by.
    pub fn settings(&self) -> Self {
        Self { arguments: Vec::new(), ..self.clone() }
    }

    /// Errors name the setting by its path, `arms[1].model.n_heads`.
    fn from_table(table: Table) -> Result<Self> {
        let kind = table.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let own = body::own_settings(&kind)?;
        if let Some(key) =
            table.keys().find(|key| !COMMON.contains(&key.as_str()) && !own.contains(&key.as_str()))
        {
            bail!(
                "there is no setting `{key}`; there are: {}, {}",
                COMMON.join(", "),
                own.join(", ")
            );
        }
        // The whole is read at once below, but there serde does not know the path any more.
        let body: Table =
            table.iter().filter(|(key, _)| own.contains(&key.as_str())).map(owned).collect();
        let common: Table =
            table.iter().filter(|(key, _)| !own.contains(&key.as_str())).map(owned).collect();
        body::check_own_settings(&kind, body)?;
        read::<Names>(common)?;
        read(table)
    }

    /// A run directory must mean the same from any working directory.
    fn make_paths_absolute(&mut self) -> Result<()> {
        let file = match &mut self.tokenizer {
            TokenizerConfig::File { path } => Some(path),
            TokenizerConfig::Bytes | TokenizerConfig::Model | TokenizerConfig::Bpe { .. } => None,
        };
        for path in self.data.paths.iter_mut().chain(file) {
            *path = std::path::absolute(&*path).with_context(|| format!("`{}`", path.display()))?;
        }
        self.body.make_paths_absolute()
    }

    fn validate(&self) -> Result<()> {
        if !(1..=MAX_SEEDS).contains(&self.seeds) {
            bail!("seeds must be from 1 to {MAX_SEEDS}, got {}", self.seeds);
        }
        if !(self.minutes > 0.0 && self.minutes.is_finite()) {
            bail!("minutes must be positive, got {}", self.minutes);
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
        self.body.validate(self)
    }
}

/// What a run directory whose settings this program does not have means.
const OTHER_SETTINGS: &str = "it was written by an older version of this program, or changed since; run the experiment again";

/// Far above any use; a plan lists every cell.
const MAX_SEEDS: u64 = 10_000;

/// Settings that every kind of experiment has.
const COMMON: &[&str] = &[
    "kind",
    "name",
    "summary",
    "scale",
    "title",
    "paper",
    "minutes",
    "seeds",
    "root_seed",
    "device",
    "threads",
    "data",
    "tokenizer",
    "claims",
    "arguments",
];

/// The types of [`COMMON`], read for the sake of an error that names the setting.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only the error is of use")]
struct Names {
    name: String,
    summary: String,
    scale: Scale,
    title: String,
    paper: String,
    minutes: f64,
    seeds: u64,
    root_seed: u64,
    device: String,
    threads: u32,
    data: DataConfig,
    tokenizer: TokenizerConfig,
    claims: Vec<Claim>,
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// Reads a table; the error begins with the path of the setting.
pub(crate) fn read<T: serde::de::DeserializeOwned>(table: Table) -> Result<T> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let (path, reason) = (error.path().to_string(), error.into_inner().to_string());
        let reason = reason.trim().replace('\n', " ");
        match path.as_str() {
            "." => anyhow::anyhow!("{reason}"), // the whole, which has no name
            _ => anyhow::anyhow!("{path}: {reason}"),
        }
    })
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
        refuse_what_every_arm_replaces(table, assignment)?;
    }
    Ok(())
}

/// `--set model.norm=pre` would do nothing if every arm has a norm of its own.
fn refuse_what_every_arm_replaces(table: &Table, assignment: &str) -> Result<()> {
    let path = assignment.split('=').next().unwrap_or_default().trim();
    let (Some((base @ ("model" | "training"), rest)), Some(Value::Array(arms))) =
        (path.split_once('.'), table.get("arms"))
    else {
        return Ok(());
    };
    let key = rest.split('.').next().unwrap_or_default();
    if !arms.is_empty()
        && arms.iter().all(|arm| arm.get(base).is_some_and(|own| own.get(key).is_some()))
    {
        bail!(
            "--set {assignment}: every arm has its own `{base}.{key}`; set it with arms.NAME.{path}=…"
        );
    }
    Ok(())
}

/// A run directory must mean the same from any working directory.
fn absolute(path: &str) -> Result<Value> {
    let path = std::path::absolute(path).with_context(|| format!("--data {path}"))?;
    let text =
        path.to_str().with_context(|| format!("--data: `{}` is not UTF-8", path.display()))?;
    Ok(Value::String(text.to_owned()))
}

/// `[model]` and `[training]` are what every arm starts from; an arm's own tables are laid upon them.
fn lay_arms_on_the_base(table: &mut Table) -> Result<()> {
    let bases: Vec<(&str, Table)> = ["model", "training"]
        .into_iter()
        .filter_map(|key| {
            let base = table.get(key)?.as_table()?.clone(); // in some kinds, `model` is a name
            table.remove(key);
            Some((key, base))
        })
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
