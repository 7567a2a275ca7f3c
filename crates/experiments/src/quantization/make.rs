//! The cell that writes a model's weights in a format.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Device;

use super::plan::{MODEL, place_of};
use super::{CalibrationConfig, Weights};
use crate::cell::CellResult;
use crate::commands::quantize::quantized;
use crate::data::open_packed;
use crate::environment;
use crate::pretrained::write_drawn;
use crate::protocol::Message;
use crate::worker::{End, Work};

/// What is written: the folder `model` beside the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeWeights {
    /// Where the weights come from.
    pub origin: Origin,
    /// What becomes of them.
    pub weights: Weights,
    /// What GPTQ calibrates on.
    pub calibration: Option<CalibrationConfig>,
    /// Tokens before every text.
    pub before: Vec<i64>,
}

/// Where a cell takes weights from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Origin {
    /// They are drawn.
    Drawn {
        /// Root of the drawing.
        seed: u64,
    },
    /// The input `model`.
    Input,
    /// The cell that this one needs.
    Needed,
}

/// Name of the folder of weights in a cell's folder.
const FOLDER: &str = "model";

/// Where a cell's weights lie; nowhere if they are drawn.
pub(super) fn source(origin: Origin, work: &Work<'_>) -> Result<PathBuf> {
    match origin {
        Origin::Needed => Ok(work.needed(0)?.join(FOLDER)),
        Origin::Input | Origin::Drawn { .. } => {
            let input = work.cell.inputs.get(MODEL).context("the cell has no input `model`")?;
            Ok(input.path.clone())
        }
    }
}

/// Writes; one that is stopped starts again.
pub(crate) fn run(task: &MakeWeights, work: &Work<'_>) -> Result<End> {
    let to = work.dir.join(FOLDER);
    if to.exists() {
        fs::remove_dir_all(&to).with_context(|| format!("cannot remove `{}`", to.display()))?;
    }
    let started = Instant::now();
    match (task.origin, task.weights.packing()) {
        (Origin::Drawn { seed }, _) => write_drawn(&to, seed)?,
        (origin, None) => copy_as(&source(origin, work)?, task.weights, &to)?,
        (origin, Some(config)) => {
            let pieces = match &task.calibration {
                Some(calibration) => calibration_pieces(calibration, &task.before, work)?,
                None => Vec::new(),
            };
            let from = source(origin, work)?;
            let mut on_tensor = |n_done: usize, n_tensors: usize| {
                let fraction = n_done as f64 / n_tensors as f64;
                Message::Progress { fraction, note: "rounding".to_owned() }.send();
                if work.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let stopped = || work.stopped();
            let outcome = quantized(&from, &to, &config, &pieces, &mut on_tensor, &stopped);
            if work.stopped() {
                return Ok(End::Stopped { resumable: false });
            }
            outcome?;
        }
    }
    let secs = started.elapsed().as_secs_f64();
    let row = BTreeMap::from([
        ("outcome".to_owned(), json!("finished")),
        ("weight_bytes".to_owned(), json!(weight_bytes(&to)?)),
        ("make_secs".to_owned(), json!(secs)),
        ("make_peak_memory_bytes".to_owned(), json!(environment::peak_memory_bytes())),
    ]);
    Ok(End::Result(CellResult { row, ..CellResult::default() }))
}

fn copy_as(from: &Path, weights: Weights, to: &Path) -> Result<()> {
    let Weights::Plain { precision } = weights else { return Ok(()) };
    let model = place_of(from).load_model(Some(precision.precision()), Device::Cpu)?;
    model.save(to)?;
    Ok(())
}

/// Pieces of the training text, spread evenly over it, with what stands before every text.
fn calibration_pieces(
    calibration: &CalibrationConfig,
    before: &[i64],
    work: &Work<'_>,
) -> Result<Vec<Vec<i64>>> {
    pieces(work, "train", calibration.n_pieces, calibration.piece_tokens, before)
}

/// `n` pieces of `piece` tokens of a prepared text.
pub(super) fn pieces(
    work: &Work<'_>,
    name: &str,
    n: u64,
    piece: usize,
    before: &[i64],
) -> Result<Vec<Vec<i64>>> {
    // A row has one token more than it predicts.
    let packed = open_packed(&work.cell.inputs, name, piece - 1)?;
    let row = |index: u64| -> Result<Vec<i64>> {
        let place = (2 * index + 1) * packed.len() / (2 * n);
        Ok([before, &packed.row(place)?].concat())
    };
    (0..n).map(row).collect()
}

/// Bytes of the files with weights.
pub(super) fn weight_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in place_of(folder).files()? {
        if file.extension().is_some_and(|extension| extension == "safetensors") {
            bytes += file.metadata().with_context(|| format!("`{}`", file.display()))?.len();
        }
    }
    Ok(bytes)
}
