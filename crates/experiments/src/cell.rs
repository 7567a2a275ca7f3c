//! A cell: one independent unit of an experiment, and the key under which its result is kept for good.

use std::collections::BTreeMap;

use forerun_runs::atomic::sha256_hex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::Input;
use crate::evaluate::EvaluateLm;
use crate::external::External;
use crate::multilingual::{AssessMixture, FitMixture, TrainMixture};
use crate::quantization::{MakeWeights, MeasureWeights, TimeWeights};
use crate::train_lm::TrainLm;
use crate::train_stack::TrainStack;
use crate::unigram::UnigramLoss;
use crate::update_size::UpdateSize;

/// What a worker process computes: pure data, written to `cell.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The work itself.
    pub task: Task,
    /// Where it runs; part of the key, since results depend on it to rounding.
    pub machine: Machine,
    /// The files that it reads, by name; what they hold is part of the key, where they lie is not.
    pub inputs: BTreeMap<String, Input>,
    /// Keys of the cells whose results it reads; part of the key.
    pub needs: Vec<String>,
    /// How a person calls it, `rope, seed 0`; not part of the key.
    pub label: String,
    /// What it says about itself in the table of results (`arm`, `seed`, …); not part of the key.
    pub tags: BTreeMap<String, Value>,
    /// What every member of a stack says about itself beside that; empty for other cells; not part of the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<BTreeMap<String, Value>>,
    /// What it is expected to cost; not part of the key.
    pub cost: Cost,
}

/// The kinds of work there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Task {
    /// Trains a decoder language model.
    TrainLm(TrainLm),
    /// Trains several decoders of one shape at once.
    TrainStack(TrainStack),
    /// Measures a trained decoder: loss by length and mask, attention resolution, samples.
    EvaluateLm(EvaluateLm),
    /// Measures how far one optimiser step moves a model, by depth.
    UpdateSize(UpdateSize),
    /// Measures the loss of a guess by the frequencies of tokens.
    UnigramLoss(UnigramLoss),
    /// Starts a command that trains.
    External(External),
    /// Trains several decoders of one shape at once, each on a mixture of its own.
    TrainMixture(TrainMixture),
    /// Fits laws of mixtures to trained models, and finds the best mixture.
    FitMixture(FitMixture),
    /// Finds out how far such laws are to be trusted.
    AssessMixture(AssessMixture),
    /// Writes a model's weights in a format.
    MakeWeights(MakeWeights),
    /// Measures a model in a format: memory and perplexity.
    MeasureWeights(MeasureWeights),
    /// Measures how fast a model in a format reads and writes.
    TimeWeights(TimeWeights),
}

impl Task {
    /// Whether nothing may run beside it, as what it measures is time.
    pub(crate) fn runs_alone(&self) -> bool {
        matches!(self, Self::TimeWeights(_))
    }

    /// The kind's name and the version of its code. **Raise the version when the code changes what it computes.**
    fn version(&self) -> (&'static str, u32) {
        match self {
            Self::TrainLm(_) => ("train-lm", 1),
            Self::TrainStack(_) => ("train-stack", 1),
            Self::UpdateSize(_) => ("update-size", 1),
            Self::UnigramLoss(_) => ("unigram-loss", 1),
            Self::EvaluateLm(_) => ("evaluate-lm", 1),
            Self::External(_) => ("external", 1),
            Self::TrainMixture(_) => ("train-mixture", 1),
            Self::FitMixture(_) => ("fit-mixture", 2),
            Self::AssessMixture(_) => ("assess-mixture", 3),
            Self::MakeWeights(_) => ("make-weights", 1),
            Self::MeasureWeights(_) => ("measure-weights", 2),
            Self::TimeWeights(_) => ("time-weights", 1),
        }
    }
}

/// The part of the machine that a result depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `cpu` or `cuda:N`; only the kind before the colon is part of the key.
    pub device: String,
    /// Threads of libtorch inside the worker.
    pub threads: u32,
}

/// An estimate made before anything runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Parameters of the model.
    pub n_params: i64,
    /// Tokens that pass through it.
    pub n_tokens: u64,
    /// Floating-point operations.
    pub flops: f64,
    /// Resident memory of the worker, in bytes.
    pub memory_bytes: u64,
    /// What the cell leaves on disk, in bytes.
    pub disk_bytes: u64,
}

impl Cell {
    /// 32 hexadecimal digits: equal for equal work, different for any difference that can change a number.
    pub fn key(&self) -> String {
        let (kind, version) = self.task.version();
        let device_kind = self.machine.device.split(':').next().unwrap_or_default();
        let held = |input: &Input| serde_json::json!([input.hash, input.tokens]);
        let inputs: BTreeMap<&String, Value> =
            self.inputs.iter().map(|(name, input)| (name, held(input))).collect();
        // serde_json's maps are sorted, so this text is canonical.
        let mut identity = serde_json::json!({
            "kind": kind,
            "version": version,
            "task": self.task,
            "device": device_kind,
            "threads": self.machine.threads,
            "inputs": inputs,
            "needs": self.needs,
        });
        if let Task::External(task) = &self.task {
            identity["task"] = task.identity(device_kind, !self.inputs.is_empty());
        }
        let mut key = sha256_hex(identity.to_string().as_bytes());
        key.truncate(32);
        key
    }
}

/// What a cell leaves behind, `result.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellResult {
    /// Scalars: one row of `results.parquet`.
    pub row: BTreeMap<String, Value>,
    /// Curves: loss against steps, perplexity against length.
    pub series: Vec<Series>,
    /// Text that the model wrote.
    pub samples: Vec<Sample>,
    /// What each member of a stack gave, in their order; empty for other cells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberResult>,
}

/// What one member of a stack gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberResult {
    /// Scalars: one row of `results.parquet`, with those of the whole stack.
    pub row: BTreeMap<String, Value>,
    /// Curves.
    pub series: Vec<Series>,
}

/// One measured curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// What was measured, `nll/causal`.
    pub name: String,
    /// Abscissae.
    pub x: Vec<f64>,
    /// Ordinates; `null` where the value is not a number.
    pub y: Vec<Option<f64>>,
}

/// A prompt and its continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// What the model was given.
    pub prompt: String,
    /// What it wrote.
    pub text: String,
    /// How it was drawn, `temperature 0.8, causal`.
    pub settings: String,
}

#[cfg(test)]
mod tests;
