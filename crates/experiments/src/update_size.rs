//! The cell that measures how far one optimiser step moves a model, against its depth: ‖F(θ+δ) − F(θ)‖.
//!
//! Wang et al. 2022, *Foundation Transformers*, arXiv:2210.06423, section 3, bound it for one step of gradient descent
//! on the blocks, with embedding and output projection left as they are. That is `sgd` here; `adamw` is the first step
//! of the optimiser that trainings use, without weight decay: a step of the learning rate in every coordinate, whatever
//! its gradient, so that its size grows with the number of layers even where that of gradient descent does not.
//!
//! F is what a decoder hands to its output projection, the hidden states after the last norm: their root mean square
//! is 1 under every placement of norms, so that a change of them is a share of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use forerun_arch::{Decoder, DecoderConfig, Forward};
use forerun_runs::seed::Seed;
use forerun_runs::stats;
use forerun_tensors::{Parameters, backward, chunked_cross_entropy, parse_device};
use forerun_tokens::{Packed, Sampler};
use forerun_train::{Optimiser, OptimiserConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::cell::CellResult;
use crate::data::open_packed;
use crate::environment;
use crate::protocol::Message;
use crate::training_log::series;
use crate::worker::{End, Work};

/// Tokens whose logits exist at one time.
const CHUNK_TOKENS: i64 = 2048;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateSize {
    /// The model, but for its depth.
    pub model: DecoderConfig,
    /// Layers, ascending.
    pub depths: Vec<i64>,
    /// Initialisations, each with a batch of its own, whose geometric mean is taken.
    pub draws: u64,
    /// Learning rate of gradient descent: small, so that the change is proportional to it.
    pub sgd_lr: f64,
    /// AdamW with its learning rate.
    pub adamw: OptimiserConfig,
    /// Tokens that are predicted in one sequence.
    pub seq_len: i64,
    /// Sequences whose mean loss gives the gradient, and as many held-out ones that the change is measured on.
    pub batch_size: i64,
    /// Root of initialisation and order of the data.
    pub seed: u64,
}

/// How far a step of each kind moved a model: root mean square over the channels of the hidden states of held-out
/// tokens, per unit of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moved {
    pub(crate) sgd: f64,
    pub(crate) adamw: f64,
    /// Norm of the blocks' gradient.
    pub(crate) grad_norm: f64,
}

/// Measures; one that is stopped starts again.
pub(crate) fn run(task: &UpdateSize, work: &Work<'_>) -> Result<End> {
    let device = parse_device(&work.cell.machine.device)?;
    let seq_len = usize::try_from(task.seq_len).context("seq_len is negative")?;
    let text = open_packed(&work.cell.inputs, "train", seq_len)?;
    let held_out = open_packed(&work.cell.inputs, "validation", seq_len)?;
    let mut curves: [Vec<(f64, f64)>; 3] = Default::default();
    let total = task.depths.iter().sum::<i64>() as f64 * task.draws as f64;
    let mut done = 0.0;
    for &depth in &task.depths {
        let mut moved = Vec::new();
        for draw in 0..task.draws {
            if work.stopped() {
                return Ok(End::Stopped { resumable: false });
            }
            let seed = Seed::new(task.seed).child(&format!("draw-{draw}"));
            let batches = Batches::draw(task, &seed, &text, &held_out, device)?;
            let model = DecoderConfig { n_layers: depth, ..task.model.clone() };
            let decoder = Decoder::new(&model, &mut seed.stream("init"), device)?;
            moved.push(measure(&decoder, &batches, task.sgd_lr, &task.adamw)?);
            done += depth as f64 / total;
            Message::Progress { fraction: done.min(1.0), note: format!("{depth} layers") }.send();
        }
        let columns: [fn(&Moved) -> f64; 3] =
            [|moved| moved.sgd, |moved| moved.adamw, |moved| moved.grad_norm];
        for (curve, column) in curves.iter_mut().zip(columns) {
            curve.push((depth as f64, geometric_mean(moved.iter().map(column))));
        }
    }
    let names = ["update/sgd", "update/adamw", "update/grad-norm"];
    let series = names.into_iter().zip(curves).map(|(name, curve)| series(name, curve)).collect();
    let row = BTreeMap::from([
        ("outcome".to_owned(), json!("finished")),
        ("draws".to_owned(), json!(task.draws)),
        ("peak_memory_bytes".to_owned(), json!(environment::peak_memory_bytes())),
    ]);
    Ok(End::Result(CellResult { row, series, ..CellResult::default() }))
}

/// What the gradient is taken on, and what the change is measured on.
pub(crate) struct Batches {
    /// i64 `[batch, seq + 1]`.
    pub(crate) train: Tensor,
    /// i64 `[batch, seq]`.
    pub(crate) held_out: Tensor,
}

impl Batches {
    fn draw(
        task: &UpdateSize,
        seed: &Seed,
        text: &Packed,
        held_out: &Packed,
        device: Device,
    ) -> Result<Self> {
        let rows = |packed: &Packed, label: &str| -> Result<Tensor> {
            let sampler = Sampler::new(packed.len(), seed.child(label).root(), 0, 1)?;
            let mut ids = Vec::new();
            for position in 0..task.batch_size.unsigned_abs() {
                packed.extend_with_row(sampler.index(position).1, &mut ids)?;
            }
            let rows = Tensor::f_from_slice(&ids)?.f_view([task.batch_size, task.seq_len + 1])?;
            Ok(rows.f_to_device(device)?)
        };
        let held_out = rows(held_out, "held-out")?.f_narrow(1, 0, task.seq_len)?;
        Ok(Self { train: rows(text, "train")?, held_out })
    }
}

/// The size of one step of each kind from the same weights and the same gradient.
pub(crate) fn measure(
    decoder: &Decoder,
    batches: &Batches,
    sgd_lr: f64,
    adamw: &OptimiserConfig,
) -> Result<Moved> {
    let blocks = blocks(decoder)?;
    let grad_norm = gradient(decoder, &blocks, &batches.train)?;
    let _no_grad = tch::no_grad_guard();
    let hidden = || decoder.hidden(&batches.held_out, &Forward::default());
    let before = hidden()?;
    let saved: Vec<Tensor> =
        blocks.iter().map(|block| block.tensor.f_detach_copy()).collect::<Result<_, _>>()?;
    let distance = |lr: f64| -> Result<f64> {
        let change = hidden()?.f_sub(&before)?.f_to_kind(Kind::Double)?;
        Ok(change.f_square()?.f_mean(None)?.f_double_value(&[])?.sqrt() / lr)
    };

    descend(&blocks, sgd_lr)?;
    let sgd = distance(sgd_lr)?;
    for (block, saved) in blocks.iter().zip(&saved) {
        block.tensor.f_detach()?.f_copy_(saved)?;
    }
    let plain = OptimiserConfig { weight_decay: 0.0, ..adamw.clone() };
    Optimiser::new(&blocks, &plain)?.step(plain.lr)?;
    Ok(Moved { sgd, adamw: distance(plain.lr)?, grad_norm })
}

/// The parameters of the blocks: what the theory lets move.
fn blocks(decoder: &Decoder) -> Result<Parameters> {
    let mut blocks = Parameters::new();
    for parameter in decoder.parameters() {
        if parameter.name.starts_with("layers.") {
            blocks.push(forerun_tensors::Parameter {
                name: parameter.name.clone(),
                tensor: parameter.tensor.shallow_clone(),
                role: parameter.role,
                lr_multiplier: parameter.lr_multiplier,
            })?;
        }
    }
    Ok(blocks)
}

/// Leaves the gradient of the mean loss in the parameters and returns its norm over the blocks.
fn gradient(decoder: &Decoder, blocks: &Parameters, rows: &Tensor) -> Result<f64> {
    let &[batch, width] = rows.size().as_slice() else { bail!("a batch of tokens is a matrix") };
    let n_tokens = batch * (width - 1);
    let inputs = rows.f_narrow(1, 0, width - 1)?;
    let targets = rows.f_narrow(1, 1, width - 1)?.f_reshape([n_tokens])?;
    let hidden = decoder.hidden(&inputs, &Forward::default())?.f_reshape([n_tokens, -1])?;
    let scale = decoder.logit_scale();
    let sum = chunked_cross_entropy(&hidden, decoder.head(), &targets, scale, CHUNK_TOKENS)?;
    backward(&sum.f_div_scalar(n_tokens as f64)?)?;
    let mut squares = 0.0;
    for block in blocks {
        squares += block.tensor.grad().f_norm()?.f_double_value(&[])?.powi(2);
    }
    Ok(squares.sqrt())
}

fn descend(blocks: &Parameters, lr: f64) -> Result<()> {
    for block in blocks {
        let step = block.tensor.grad().f_mul_scalar(-lr)?;
        let _ = block.tensor.f_detach()?.f_add_(&step)?;
    }
    Ok(())
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    stats::mean(&values.map(f64::ln).collect::<Vec<_>>()).exp()
}

#[cfg(test)]
mod tests;
