//! The cell that measures a model in one format: memory and perplexity, in a process that does nothing else.
//!
//! First a prompt is read at once, then tokens one by one, as if they were being written. What the process held at most
//! until then is the memory. Then all pieces are read for their perplexity, which needs the logits of many tokens at once and
//! so more memory than writing does.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use forerun_arch::{CausalLm, LoadOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::make::{Origin, pieces, source, weight_bytes};
use super::timing::read_and_write;
use super::{MEMORY_BYTES, PERPLEXITY, ReadingConfig, WEIGHT_BYTES};
use crate::cell::{CellResult, MemberResult};
use crate::environment;
use crate::protocol::Message;
use crate::training_log::series;
use crate::worker::{End, Work};

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureWeights {
    /// Where the weights come from.
    pub origin: Origin,
    /// Pieces of the held-out text.
    pub n_pieces: u64,
    /// How they are read.
    pub reading: ReadingConfig,
    /// Tokens before every text.
    pub before: Vec<i64>,
}

/// Measures; one that is stopped starts again.
pub(crate) fn run(task: &MeasureWeights, work: &Work<'_>) -> Result<End> {
    let started = Instant::now();
    let idle = idle_memory()?;
    let folder = source(task.origin, work)?;
    let pieces =
        pieces(work, "validation", task.n_pieces, task.reading.piece_tokens, &task.before)?;
    let loading = Instant::now();
    let model = CausalLm::load(&folder, &LoadOptions::default())?;
    let load_secs = loading.elapsed().as_secs_f64();
    let first = pieces.first().context("there is no piece to read")?;
    read_and_write(&model, first, &task.reading)?;
    let peak = environment::peak_memory_bytes();
    let memory = peak.map_or(f64::NAN, |peak| peak.saturating_sub(idle) as f64);
    let weights = weight_bytes(&folder)?;
    let mut members = Vec::new();
    for piece in &pieces {
        if advance(work, members.len(), pieces.len(), "perplexity") {
            return Ok(End::Stopped { resumable: false });
        }
        let log_probs = model.log_probs(piece)?;
        // Only tokens of the text count, not what stands before every text.
        let own = &log_probs[task.before.len().saturating_sub(1)..];
        let nats = -own.iter().sum::<f64>() / own.len() as f64;
        members.push(member(nats, own.len(), weights, memory));
    }
    let secs = started.elapsed().as_secs_f64();
    let mut row = BTreeMap::new();
    let mut set = |name: &str, value: Value| row.insert(name.to_owned(), value);
    set("outcome", json!("finished"));
    set("n_params", json!(work.cell.cost.n_params));
    set("weight_bytes", json!(weights));
    set("idle_memory_bytes", json!(idle));
    set("peak_memory_bytes", json!(peak));
    set("load_secs", json!(load_secs));
    set("flops_per_sec", json!(work.cell.cost.flops / secs));
    Ok(End::Result(CellResult { row, members, ..CellResult::default() }))
}

fn member(nats: f64, n_tokens: usize, weights: u64, memory: f64) -> MemberResult {
    let row = BTreeMap::from([
        ("nats_per_token".to_owned(), json!(nats)),
        ("n_tokens".to_owned(), json!(n_tokens)),
    ]);
    let values = [(PERPLEXITY, nats.exp()), (WEIGHT_BYTES, weights as f64), (MEMORY_BYTES, memory)];
    let series = values.map(|(name, value)| series(name, vec![(0.0, value)]));
    MemberResult { row, series: series.to_vec() }
}

/// What a process with libtorch holds before there is a model, in bytes.
fn idle_memory() -> Result<u64> {
    let some = Tensor::f_ones([64, 64], (Kind::Float, Device::Cpu))?;
    let _ = some.f_matmul(&some)?;
    environment::memory_bytes().context("this system does not say how much memory a process holds")
}

/// Tells how far it is; whether to stop.
fn advance(work: &Work<'_>, done: usize, all: usize, note: &str) -> bool {
    let fraction = done as f64 / all as f64;
    Message::Progress { fraction, note: note.to_owned() }.send();
    work.stopped()
}
