//! The cell that times a model in one format, once: a turn of several.
//!
//! What a process happens to get (where its memory lies, what else runs, how fast the processor may go) is the same for
//! everything that it reads, so that its pieces do not show how much that matters. Turns do: each is a process of its own, beside
//! which none of ours runs, and every format has had its first before any has its second.
//!
//! Speeds are compared with one another, and depend on more than the work: so all formats of a plan are timed together or not at
//! all. If the weights of one change, or the program, or the processor, none of the speeds in the store is used again.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use forerun_arch::{CausalLm, Error, LmCache, LoadOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::make::{Origin, pieces, source};
use super::{DECODE_SPEED, PROMPT_SPEED, ReadingConfig};
use crate::cell::CellResult;
use crate::protocol::Message;
use crate::training_log::series;
use crate::worker::{End, Work};

/// What is timed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeWeights {
    /// Where the weights come from.
    pub origin: Origin,
    /// Which time, from 0.
    pub turn: u64,
    /// Pieces of the held-out text.
    pub n_pieces: u64,
    /// How they are read.
    pub reading: ReadingConfig,
    /// Tokens before every text.
    pub before: Vec<i64>,
    /// Hash of everything that is timed beside it, of the program and of the processor: it makes the key another where any of
    /// these is another.
    pub together: String,
}

/// Tokens and seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Timed {
    n_tokens: usize,
    secs: f64,
}

impl Timed {
    fn of(n_tokens: usize, work: impl FnOnce() -> Result<(), Error>) -> Result<Self> {
        let started = Instant::now();
        work()?;
        Ok(Self { n_tokens, secs: started.elapsed().as_secs_f64() })
    }

    fn add(&mut self, other: Self) {
        self.n_tokens += other.n_tokens;
        self.secs += other.secs;
    }

    fn tokens_per_sec(self) -> f64 {
        self.n_tokens as f64 / self.secs
    }
}

/// Times; one that is stopped starts again.
pub(crate) fn run(task: &TimeWeights, work: &Work<'_>) -> Result<End> {
    let started = Instant::now();
    let reading = &task.reading;
    let folder = source(task.origin, work)?;
    let pieces = pieces(work, "validation", task.n_pieces, reading.piece_tokens, &task.before)?;
    let model = CausalLm::load(&folder, &LoadOptions::default())?;
    let first = pieces.first().context("there is no piece to read")?;
    read_and_write(&model, first, reading)?; // touches the memory; not counted
    let [mut prompt, mut decode] = [Timed::default(); 2];
    for (index, piece) in pieces.iter().enumerate() {
        let fraction = index as f64 / pieces.len() as f64;
        Message::Progress { fraction, note: "speed".to_owned() }.send();
        if work.stopped() {
            return Ok(End::Stopped { resumable: false });
        }
        let [of_prompt, of_decode] = read_and_write(&model, piece, reading)?;
        prompt.add(of_prompt);
        decode.add(of_decode);
    }
    let [prompt, decode] = [prompt, decode].map(Timed::tokens_per_sec);
    let row = BTreeMap::from([
        ("outcome".to_owned(), json!("finished")),
        ("prompt_tokens_per_sec".to_owned(), json!(prompt)),
        ("decode_tokens_per_sec".to_owned(), json!(decode)),
        ("flops_per_sec".to_owned(), json!(work.cell.cost.flops / started.elapsed().as_secs_f64())),
    ]);
    let series = [(PROMPT_SPEED, prompt), (DECODE_SPEED, decode)]
        .map(|(name, value)| series(name, vec![(0.0, value)]));
    Ok(End::Result(CellResult { row, series: series.to_vec(), ..CellResult::default() }))
}

/// Reads the beginning of a piece at once, and what follows token by token, as if it were being written.
pub(super) fn read_and_write(
    model: &CausalLm,
    piece: &[i64],
    reading: &ReadingConfig,
) -> Result<[Timed; 2]> {
    let &ReadingConfig { prompt_tokens, decode_tokens, .. } = reading;
    let (prompt, rest) = piece.split_at(prompt_tokens.min(piece.len()));
    let written = &rest[..decode_tokens.min(rest.len())];
    let mut cache = LmCache::new(model, prompt_tokens + decode_tokens);
    let of_prompt = Timed::of(prompt.len(), || model.extend(prompt, &mut cache).map(|_| ()))?;
    let of_written = Timed::of(written.len(), || {
        written.iter().try_for_each(|&token| model.extend(&[token], &mut cache).map(|_| ()))
    })?;
    Ok([of_prompt, of_written])
}
