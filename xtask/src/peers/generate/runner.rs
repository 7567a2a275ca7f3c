//! One program that reads and writes, with what it answered.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::peers::process::Process;

/// A program that reads and writes.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) name: &'static str,
    pub(super) process: Process,
    pub(super) ready: Value,
    pub(super) batch_size: f64,
    /// Tokens a second.
    pub(super) prompt: Vec<f64>,
    pub(super) decode: Vec<f64>,
    /// The tokens that it chose in its first turn: after the prompts, then step by step, one a text.
    pub(super) ids: Option<Vec<i64>>,
}

impl Runner {
    pub(super) fn start(
        name: &'static str,
        command: &mut Command,
        setup: &Value,
        threads: u32,
    ) -> Result<Self> {
        command.env("OMP_NUM_THREADS", threads.to_string()).arg(setup.to_string());
        command.env_remove("RUST_BACKTRACE"); // the last line that it says is the reason
        let mut process = Process::start(name, command)?;
        let ready = process.answer()?;
        ensure!(ready["ready"] == json!(true), "{name} did not say that it is ready, but {ready}");
        let batch_size = setup["batch_size"].as_f64().unwrap_or(1.0);
        Ok(Self { name, process, ready, batch_size, prompt: vec![], decode: vec![], ids: None })
    }

    /// Reads prompts of `prompt` tokens and continues them by `new`.
    pub(super) fn take_turn(&mut self, prompt: u32, new: u32, counts: bool) -> Result<()> {
        let prompt = self.process.ask(&format!("prompt {prompt}"))?;
        let decode = self.process.ask(&format!("decode {new}"))?;
        let said = || format!("{} said {prompt} and {decode}", self.name);
        let rates = rate(&prompt).zip(rate(&decode)).with_context(said)?;
        let ids = ids(&prompt).zip(ids(&decode)).with_context(said)?;
        self.ids.get_or_insert_with(|| [ids.0, ids.1].concat());
        if counts {
            self.prompt.push(rates.0);
            self.decode.push(rates.1);
        }
        Ok(())
    }
}

fn rate(answer: &Value) -> Option<f64> {
    let rate = answer["tokens"].as_f64()? / answer["seconds"].as_f64()?;
    Some(rate).filter(|rate| rate.is_finite())
}

fn ids(answer: &Value) -> Option<Vec<i64>> {
    answer["ids"].as_array()?.iter().map(Value::as_i64).collect()
}

/// Which part of the chosen tokens is the same, and of how many.
pub(super) fn same([ours, theirs]: &[Runner; 2]) -> (f64, usize) {
    let (Some(ours), Some(theirs)) = (&ours.ids, &theirs.ids) else { return (0.0, 0) };
    share_of_same(ours, theirs)
}

pub(super) fn share_of_same(ours: &[i64], theirs: &[i64]) -> (f64, usize) {
    let n = ours.len().max(theirs.len());
    let same = ours.iter().zip(theirs).filter(|(ours, theirs)| ours == theirs).count();
    (same as f64 / n.max(1) as f64, n)
}
