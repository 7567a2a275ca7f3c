//! The cell that measures a trained decoder: loss by length and mask, loss by position, attention resolution, and
//! what it writes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use forerun_arch::{Decoder, Forward, Generation, attention_resolution, generate};
use forerun_runs::seed::Seed;
use forerun_tensors::{Mask, parse_device, token_nll};
use forerun_tokens::{Packed, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::cell::{CellResult, Sample, Series};
use crate::data::{open_packed, open_tokenizer};
use crate::environment;
use crate::protocol::Message;
use crate::train_stack;
use crate::training_log::series;
use crate::worker::{End, Work, needed_result};

/// Tokens in one forward pass.
const BATCH_TOKENS: usize = 8192;
/// Tokens whose logits exist at one time.
const CHUNK_TOKENS: i64 = 2048;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateLm {
    /// Tokens that the model reads at a time, ascending; the first is the training length.
    pub lengths: Vec<i64>,
    /// Block of blockwise causal attention: half the training length.
    pub block_size: i64,
    /// Validation tokens read at each length.
    pub n_tokens: u64,
    /// Attention resolution.
    pub resolution: ResolutionTask,
    /// Text to write.
    pub samples: SampleTask,
    /// Root of the sampling.
    pub seed: u64,
    /// Which member of the stack that the needed cell trained; none if it trained a single model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<usize>,
}

/// Where attention resolution is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolutionTask {
    /// Tokens, ascending; may be empty.
    pub lengths: Vec<i64>,
    /// Sequences that it is averaged over.
    pub n_sequences: i64,
}

/// Text to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleTask {
    /// Prompts cut from the validation text.
    pub n_prompts: u64,
    /// Tokens of each.
    pub prompt_tokens: i64,
    /// Tokens written after it.
    pub new_tokens: usize,
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// The smallest set of tokens with this probability is drawn from.
    pub top_p: f64,
}

/// Measures; one that is stopped starts again.
pub(crate) fn run(task: &EvaluateLm, work: &Work<'_>) -> Result<End> {
    let trained = work.needed(0)?;
    if let Some(outcome) = did_not_finish(&trained, task.member)? {
        let row = BTreeMap::from([(
            "outcome".to_owned(),
            json!(format!("nothing to evaluate: {outcome}")),
        )]);
        return Ok(End::Result(CellResult { row, ..CellResult::default() }));
    }
    let device = parse_device(&work.cell.machine.device)?;
    let folder = match task.member {
        Some(member) => train_stack::model_folder(&trained, member),
        None => trained.join("model"),
    };
    let model = Decoder::load(&folder, device)?;
    let evaluation = Evaluation { task, work, model: &model, device };
    let _no_grad = tch::no_grad_guard();

    let mut result = CellResult::default();
    let masks =
        [("causal", Mask::Causal), ("bca", Mask::BlockwiseCausal { block_size: task.block_size })];
    let n_parts = masks.len() * (task.lengths.len() + task.resolution.lengths.len()) + 1;
    let mut part = 0;
    let mut advance = |note: String| {
        part += 1;
        Message::Progress { fraction: part as f64 / n_parts as f64, note }.send();
        work.stopped()
    };
    for (name, mask) in masks {
        let (mut losses, mut resolutions) = (Vec::new(), Vec::new());
        for &length in &task.lengths {
            let by_position = evaluation.loss_by_position(length, mask)?;
            losses.push((length as f64, mean(&by_position)));
            if Some(&length) == task.lengths.last() {
                result.series.push(binned(
                    &format!("nll-by-position/{name}"),
                    &by_position,
                    task.block_size,
                ));
            }
            if advance(format!("{name} attention over {length} tokens")) {
                return Ok(End::Stopped { resumable: false });
            }
        }
        for &length in &task.resolution.lengths {
            resolutions.push((length as f64, evaluation.resolution(length, mask)?));
            if advance(format!("attention resolution at {length} tokens")) {
                return Ok(End::Stopped { resumable: false });
            }
        }
        result.series.push(series(&format!("nll/{name}"), losses));
        result.series.push(series(&format!("resolution/{name}"), resolutions));
    }
    result.samples = evaluation.samples()?;
    result.row.insert("outcome".to_owned(), json!("finished"));
    result.row.insert("peak_memory_bytes".to_owned(), json!(environment::peak_memory_bytes()));
    Ok(End::Result(result))
}

fn did_not_finish(trained: &Path, member: Option<usize>) -> Result<Option<String>> {
    let result = needed_result(trained)?;
    let row = match member {
        None => Some(&result.row),
        // A stack that ran out of memory as a whole has no members to tell of.
        Some(member) => result.members.get(member).map(|found| &found.row).or(Some(&result.row)),
    };
    let outcome = row.and_then(|row| row.get("outcome")).and_then(|value| value.as_str());
    let outcome = outcome.unwrap_or("unknown").to_owned();
    Ok((outcome != "finished").then_some(outcome))
}

struct Evaluation<'a> {
    task: &'a EvaluateLm,
    work: &'a Work<'a>,
    model: &'a Decoder,
    device: Device,
}

impl Evaluation<'_> {
    fn packed(&self, length: i64) -> Result<Packed> {
        open_packed(&self.work.cell.inputs, "validation", usize::try_from(length)?)
    }

    /// Mean negative log-likelihood, nats per token, of every position of a window of `length` tokens. All lengths
    /// read the same text: as many whole windows of the longest length as `n_tokens` holds.
    fn loss_by_position(&self, length: i64, mask: Mask) -> Result<Vec<f64>> {
        let packed = self.packed(length)?;
        let longest = self.task.lengths.last().copied().unwrap_or(length);
        let available = self.packed(longest)?.len() * longest as u64;
        let n_tokens = (self.task.n_tokens.min(available) / longest as u64).max(1) * longest as u64;
        let n_windows = n_tokens / length as u64;
        let batch = (BATCH_TOKENS as u64 / length as u64).max(1);
        let mut sums = Tensor::f_zeros([length], (Kind::Double, self.device))?;
        for first in (0..n_windows).step_by(batch as usize) {
            let rows = self.rows(&packed, first, batch.min(n_windows - first))?; // [windows, length + 1]
            let nll = self.nll(&rows, length, mask)?; // [windows, length]
            sums = sums.f_add(&nll.f_sum_dim_intlist(0_i64, false, Kind::Double)?)?;
        }
        let means = sums.f_div_scalar(n_windows as f64)?;
        Ok(Vec::try_from(means)?)
    }

    fn rows(&self, packed: &Packed, first: u64, n: u64) -> Result<Tensor> {
        let mut ids = Vec::new();
        for row in first..first + n {
            ids.extend(packed.row(row)?);
        }
        let rows = Tensor::f_from_slice(&ids)?.f_view([n as i64, packed.seq_len() as i64 + 1])?;
        Ok(rows.f_to_device(self.device)?)
    }

    fn nll(&self, rows: &Tensor, length: i64, mask: Mask) -> Result<Tensor> {
        let inputs = rows.f_narrow(1, 0, length)?;
        let targets = rows.f_narrow(1, 1, length)?.f_reshape([-1])?;
        let hidden = self.model.hidden(&inputs, &Forward { mask, ..Forward::default() })?;
        let hidden = hidden.f_reshape([-1, hidden.size()[2]])?; // [windows * length, d_model]
        let nll = token_nll(
            &hidden,
            self.model.head(),
            &targets,
            self.model.logit_scale(),
            CHUNK_TOKENS,
        )?;
        Ok(nll.f_view([-1, length])?)
    }

    fn resolution(&self, length: i64, mask: Mask) -> Result<f64> {
        let packed = self.packed(length)?;
        let n = (self.task.resolution.n_sequences as u64).min(packed.len());
        let rows = self.rows(&packed, 0, n)?.f_narrow(1, 0, length)?;
        Ok(attention_resolution(self.model, &rows, mask)?.mean)
    }

    /// Continuations of prompts from the validation text, with ordinary causal attention up to the training length
    /// and blockwise beyond it.
    fn samples(&self) -> Result<Vec<Sample>> {
        let task = &self.task.samples;
        if task.n_prompts == 0 {
            return Ok(Vec::new());
        }
        let tokenizer = open_tokenizer(&self.work.cell.inputs)?;
        let packed = self.packed(task.prompt_tokens)?;
        let seed = Seed::new(self.task.seed);
        (0..task.n_prompts)
            .map(|index| {
                let place = (2 * index + 1) * packed.len() / (2 * task.n_prompts); // spread over the text
                let mut prompt = packed.row(place)?;
                prompt.pop();
                self.sample(&tokenizer, &prompt, &mut seed.stream(&format!("sample/{index}")))
            })
            .collect()
    }

    fn sample(
        &self,
        tokenizer: &Tokenizer,
        prompt: &[i64],
        rng: &mut impl rand::Rng,
    ) -> Result<Sample> {
        let task = &self.task.samples;
        let options = Generation {
            max_new_tokens: task.new_tokens,
            temperature: task.temperature,
            top_p: Some(task.top_p),
            stop_tokens: tokenizer.end_of_document().map(i64::from).into_iter().collect(),
            mask: Mask::BlockwiseCausal { block_size: self.task.block_size },
            ..Generation::default()
        };
        let new = generate(self.model, prompt, &options, rng, &mut |_| ControlFlow::Continue(()))?;
        let text = |ids: &[i64]| -> Result<String> {
            let ids: Result<Vec<u32>, _> = ids.iter().map(|&id| u32::try_from(id)).collect();
            Ok(tokenizer.decode(&ids?)?)
        };
        let settings = format!(
            "temperature {}, top-p {}, blockwise causal attention",
            task.temperature, task.top_p
        );
        Ok(Sample { prompt: text(prompt)?, text: text(&new)?, settings })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Means over runs of `width` positions, each at its middle.
fn binned(name: &str, by_position: &[f64], width: i64) -> Series {
    let width = usize::try_from(width / 2).unwrap_or(1).max(1);
    let bins = by_position.chunks(width).enumerate();
    let points =
        bins.map(|(index, bin)| ((index * width) as f64 + bin.len() as f64 / 2.0, mean(bin)));
    series(name, points.collect())
}
