//! `generation_config.json`: how a model's makers sample from it.

use std::path::Path;

use serde::Deserialize;

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
    /// Candidates at most.
    pub top_k: Option<usize>,
    /// Share of the probability that the candidates have.
    pub top_p: Option<f64>,
    /// Share of the likeliest one's probability that a candidate has at least.
    pub min_p: Option<f64>,
    /// Penalty on what occurred before.
    pub repetition_penalty: Option<f64>,
    /// Tokens that end a text.
    pub eos_tokens: Vec<i64>,
}

#[derive(Deserialize)]
struct Fields {
    do_sample: Option<bool>,
    temperature: Option<f64>,
    top_k: Option<i64>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    eos_token_id: Option<Ids>,
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
        let fields: Fields = parse(&path, &read(&path)?)?;
        let eos_tokens = match &fields.eos_token_id {
            Some(ids) => ids.list(),
            None => own()?,
        };
        let top_k =
            match fields.top_k {
                // Both mean that there is no bound.
                None | Some(0 | -1) => None,
                Some(k) => Some(usize::try_from(k).map_err(|_| {
                    refused(&path, format!("`top_k` must not be negative, got {k}"))
                })?),
            };
        let defaults = Self {
            do_sample: fields.do_sample.unwrap_or(false),
            temperature: fields.temperature,
            top_k,
            top_p: fields.top_p,
            min_p: fields.min_p,
            repetition_penalty: fields.repetition_penalty,
            eos_tokens,
        };
        let checked = Self { do_sample: true, ..defaults.clone() }.options(1).validate();
        checked.map_err(|error| refused(&path, error.to_string()))?;
        Ok(defaults)
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
