//! `generation_config.json`: how a model's makers sample from it.

use std::path::Path;

use forerun_tensors::write_atomic;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::fields::{Ids, parse};
use super::{CONFIG, GENERATION, read, refused};
use crate::error::Result;
use crate::lm::LmConfig;
use crate::sample::Generation;

/// What a checkpoint says about generating text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Whether tokens are drawn; otherwise the most likely is taken.
    pub do_sample: bool,
    /// Divides the logits.
    pub temperature: Option<f64>,
    /// Candidates at most. A file that does not say means 50, as in transformers.
    pub top_k: Option<usize>,
    /// Share of the probability that the candidates have.
    pub top_p: Option<f64>,
    /// Share of the likeliest one's probability that a candidate has at least.
    pub min_p: Option<f64>,
    /// Penalty on what occurred before.
    pub repetition_penalty: Option<f64>,
    /// Tokens that end a text.
    pub eos_tokens: Vec<i64>,
    /// Tokens after the prompt at most.
    pub max_new_tokens: Option<usize>,
    /// Tokens at most, the prompt's counted in; `max_new_tokens` goes before it.
    pub max_length: Option<usize>,
}

#[derive(Deserialize)]
struct Fields {
    do_sample: Option<bool>,
    temperature: Option<f64>,
    /// Not there, null, or a number.
    #[serde(default, deserialize_with = "there")]
    top_k: Option<Option<i64>>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    eos_token_id: Option<Ids>,
    max_new_tokens: Option<i64>,
    max_length: Option<i64>,
}

/// transformers' `top_k` where nothing is said.
const TOP_K: usize = 50;

fn there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl GenerationDefaults {
    /// Reads `generation_config.json` in `folder`. Without that file nothing is set but the tokens that end a text, which are then those of
    /// `config.json`.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if a file cannot be read, [`crate::Error::Checkpoint`] names the field that makes no sense.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(GENERATION);
        let own = || -> Result<Vec<i64>> { Ok(LmConfig::read(&folder.join(CONFIG))?.eos_tokens) };
        if !path.exists() {
            return Ok(Self { eos_tokens: own()?, ..Self::default() });
        }
        Self::parse(&path, &read(&path)?, own)
    }

    /// What `text` says; `own` is asked for the tokens that end a text if it does not.
    pub(super) fn parse(
        path: &Path,
        text: &[u8],
        own: impl FnOnce() -> Result<Vec<i64>>,
    ) -> Result<Self> {
        let fields: Fields = parse(path, text)?;
        let eos_tokens = match &fields.eos_token_id {
            Some(ids) => ids.list(),
            None => own()?,
        };
        let negative = |k| refused(path, format!("`top_k` must not be negative, got {k}"));
        let top_k = match fields.top_k {
            None => Some(TOP_K),
            // All of them mean that there is no bound.
            Some(None | Some(0 | -1)) => None,
            Some(Some(k)) => Some(usize::try_from(k).map_err(|_| negative(k))?),
        };
        let length = |name: &str, n: Option<i64>| match n.map(usize::try_from) {
            None => Ok(None),
            Some(Ok(n)) if n > 0 => Ok(Some(n)),
            _ => Err(refused(path, format!("`{name}` must be positive, got {}", n.unwrap_or(0)))),
        };
        let defaults = Self {
            do_sample: fields.do_sample.unwrap_or(false),
            temperature: fields.temperature,
            top_k,
            top_p: fields.top_p,
            min_p: fields.min_p,
            repetition_penalty: fields.repetition_penalty,
            eos_tokens,
            max_new_tokens: length("max_new_tokens", fields.max_new_tokens)?,
            max_length: length("max_length", fields.max_length)?,
        };
        let checked = Self { do_sample: true, ..defaults.clone() }.options(1).validate();
        checked.map_err(|error| refused(path, error.to_string()))?;
        Ok(defaults)
    }

    /// Writes them to `folder` as `generation_config.json`, over one that is there. [`crate::CausalLm::save`] keeps such a file, and
    /// knows nothing of them itself but the tokens that end a text.
    ///
    /// # Errors
    /// [`crate::Error::Tensors`] if it cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut fields = Map::new();
        for (name, value) in [
            ("do_sample", Some(json!(self.do_sample))),
            ("temperature", self.temperature.map(Value::from)),
            // 0 says that there is no bound; without a word there would be one.
            ("top_k", Some(json!(self.top_k.unwrap_or(0)))),
            ("top_p", self.top_p.map(Value::from)),
            ("min_p", self.min_p.map(Value::from)),
            ("repetition_penalty", self.repetition_penalty.map(Value::from)),
            ("eos_token_id", Some(json!(self.eos_tokens))),
            ("max_new_tokens", self.max_new_tokens.map(Value::from)),
            ("max_length", self.max_length.map(Value::from)),
        ] {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        }
        let path = folder.join(GENERATION);
        let text = serde_json::to_vec_pretty(&fields)
            .map_err(|error| refused(&path, error.to_string()))?;
        Ok(write_atomic(&path, &text)?)
    }

    /// How many tokens may follow a prompt of `n_prompt`, as transformers counts: none after one of `max_length` or more. None if the
    /// makers do not say.
    #[must_use]
    pub fn new_tokens_after(&self, n_prompt: usize) -> Option<usize> {
        let left = self.max_length.map(|length| length.saturating_sub(n_prompt));
        self.max_new_tokens.or(left)
    }

    /// These defaults as options.
    #[must_use]
    pub fn options(&self, max_new_tokens: usize) -> Generation {
        let drawn = self.do_sample;
        Generation {
            max_new_tokens,
            temperature: if drawn { self.temperature.unwrap_or(1.0) } else { 0.0 },
            top_k: self.top_k.filter(|_| drawn),
            top_p: self.top_p.filter(|_| drawn),
            min_p: self.min_p.filter(|_| drawn),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            stop_tokens: self.eos_tokens.clone(),
            ..Generation::default()
        }
    }
}
