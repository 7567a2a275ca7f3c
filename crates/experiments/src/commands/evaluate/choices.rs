//! Multiple choice by likelihood, with the arithmetic of EleutherAI's lm-evaluation-harness (0.4, `Task.process_results`
//! and `TemplateLM._encode_pair`).
//!
//! The choice with the highest log-likelihood is the model's answer; of equal ones the first. `acc` compares sums over a
//! choice's tokens, `acc_norm` sums divided by the choice's characters, `acc_bytes` by its bytes in UTF-8. Neither counts
//! the delimiter before the choice.
//!
//! Spaces at the end of the context are taken to the choice. The context is turned into tokens alone, and both once more
//! together: what these have beyond the number of the context's tokens is the choice, also where a token of theirs lies
//! over the border. An empty context is the token that begins a text, or else the one that ends it; a choice that begins
//! with this very token is not given it twice.

mod items;

use std::fs::{self, File};
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use forerun_runs::stats;
use forerun_runs::table::{Cell, Column, Table};
use forerun_tokens::ModelTokenizer;
use serde_json::{Value, json};

use super::super::ModelArgs;
use crate::cli::{say, tell};
use crate::interrupt::{self, INTERRUPTED};
use crate::plan::{counted, wrapped};
use crate::pretrained::Pretrained;
use items::Item;

/// The command line of `evaluate choices`.
#[derive(Args, Debug)]
pub(crate) struct ChoicesArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// JSON lines: {"question": "..", "choices": ["..", ".."], "answer": 0}. The answer is a number from 0, a letter or
    /// the choice itself; `context` may stand for `question`.
    file: PathBuf,
    /// What stands between a question and a choice.
    #[arg(long, value_name = "TEXT", default_value = " ")]
    delimiter: String,
    /// Put before each question what the tokenizer puts before a text.
    #[arg(long)]
    bos: bool,
    /// Questions, from the first on [default: all].
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Where the log-likelihoods of every question go, as JSON lines, each as soon as it is known.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

/// The three ways to count.
const METRICS: [&str; 3] = ["acc", "acc_norm", "acc_bytes"];

/// Runs the command.
pub(crate) fn choices(args: &ChoicesArgs) -> Result<i32> {
    let mut items = items::read(&args.file)?;
    items.truncate(args.limit.unwrap_or(usize::MAX));
    ensure!(!items.is_empty(), "--limit must be at least 1, got 0");
    let mut out = args.out.as_deref().map(Lines::open).transpose()?;
    let pretrained = args.model.load().inspect_err(|_| out.iter().for_each(Lines::give_up))?;
    out.as_mut().map_or(Ok(()), Lines::begin)?;
    interrupt::install();
    let mut right: [Vec<f64>; 3] = Default::default();
    for (index, item) in items.iter().enumerate() {
        if interrupt::asked() {
            break;
        }
        let found = log_likelihoods(&pretrained, item, &args.delimiter, args.bos)
            .with_context(|| format!("`{}` line {}", args.file.display(), item.line))?;
        let answers = answers(&found, &item.choices);
        for (list, answer) in right.iter_mut().zip(answers) {
            list.push(if answer == item.answer { 1.0 } else { 0.0 });
        }
        let line = json!({
            "line": item.line, "log_likelihoods": found, "answer": item.answer,
            "acc": answers[0], "acc_norm": answers[1], "acc_bytes": answers[2],
        });
        if let Some(out) = &mut out {
            out.add(&line)?;
        }
        progress(index + 1, items.len());
    }
    Ok(conclude(&right, &items, args.json))
}

/// Says what was found, all of it or what there is after Ctrl-C, and gives the exit status.
fn conclude(right: &[Vec<f64>; 3], items: &[Item], as_json: bool) -> i32 {
    let answered = &items[..right[0].len()];
    let whole = answered.len() == items.len();
    if answered.is_empty() {
        tell("stopped before the first question was answered");
        return INTERRUPTED;
    }
    match as_json {
        true => say(&in_json(right, whole).to_string()),
        false => say(&in_words(right, answered, items.len())),
    }
    if whole { 0 } else { INTERRUPTED }
}

/// A file of JSON lines, opened before there is anything to write, so that nothing is computed in vain.
struct Lines<'a> {
    path: &'a Path,
    file: File,
    /// Whether there was none of that name.
    is_new: bool,
}

impl<'a> Lines<'a> {
    /// What a file of that name holds stays in it until [`Self::begin`].
    fn open(path: &'a Path) -> Result<Self> {
        let is_new = !path.exists();
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(Self { path, file, is_new })
    }

    /// Empties a file. Pipes, terminals and other devices have no length to set.
    fn begin(&mut self) -> Result<()> {
        let failed = || format!("cannot write `{}`", self.path.display());
        if self.file.metadata().with_context(failed)?.is_file() {
            self.file.set_len(0).with_context(failed)?;
        }
        Ok(())
    }

    /// Nothing will be written: a file that was not there goes again.
    fn give_up(&self) {
        if self.is_new {
            let _ = fs::remove_file(self.path);
        }
    }

    fn add(&mut self, line: &Value) -> Result<()> {
        let failed = || format!("cannot write `{}`", self.path.display());
        writeln!(self.file, "{line}").with_context(failed)
    }
}

/// The log-likelihood of each choice.
fn log_likelihoods(
    pretrained: &Pretrained,
    item: &Item,
    delimiter: &str,
    bos: bool,
) -> Result<Vec<f64>> {
    let longest = usize::try_from(pretrained.model.config().max_seq_len).unwrap_or(usize::MAX);
    let one = |choice: &String| -> Result<f64> {
        let continuation = format!("{delimiter}{choice}");
        let pair = Pair::encode(&pretrained.tokenizer, &item.context, &continuation, bos)?;
        ensure!(!pair.continuation.is_empty(), "the choice `{choice}` has no token of its own");
        let n = pair.continuation.len();
        ensure!(
            n <= longest,
            "the choice `{}…` has {n} tokens, the model is made for {longest}",
            choice.chars().take(20).collect::<String>()
        );
        // A context that is too long loses its beginning.
        let all = [pair.context, pair.continuation].concat();
        let read = &all[all.len().saturating_sub(longest + 1)..];
        let log_probs = pretrained.model.log_probs(read)?;
        Ok(log_probs[log_probs.len() - n..].iter().sum())
    };
    item.choices.iter().map(one).collect()
}

/// Tokens of a context and of what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    context: Vec<i64>,
    continuation: Vec<i64>,
}

impl Pair {
    fn encode(
        tokenizer: &ModelTokenizer,
        context: &str,
        continuation: &str,
        bos: bool,
    ) -> Result<Self> {
        let encode = |text: &str| -> Result<Vec<i64>> {
            let ids = match bos {
                true => tokenizer.encode_prompt(text)?,
                false => tokenizer.tokenizer().encode_special(text)?,
            };
            Ok(Pretrained::ids(ids))
        };
        if context.is_empty() {
            let first = tokenizer.bos_id().or(tokenizer.eos_id());
            let first =
                first.context("without a question there must be a token that begins a text")?;
            let first = i64::from(first);
            let all = Pretrained::ids(tokenizer.tokenizer().encode_special(continuation)?);
            let n_there = usize::from(all.first() == Some(&first));
            return Ok(Self { context: vec![first], continuation: all[n_there..].to_vec() });
        }
        let whole = encode(&format!("{context}{continuation}"))?;
        let context = encode(context.trim_end())?;
        let continuation = whole.get(context.len()..).unwrap_or_default().to_vec();
        ensure!(!context.is_empty(), "the question has no token");
        Ok(Self { context, continuation })
    }
}

/// The model's answer by each of [`METRICS`].
fn answers(log_likelihoods: &[f64], choices: &[String]) -> [usize; 3] {
    let by = |length: fn(&str) -> f64| {
        let scores = log_likelihoods.iter().zip(choices).map(|(sum, choice)| sum / length(choice));
        first_highest(scores)
    };
    [by(|_| 1.0), by(|choice| choice.chars().count() as f64), by(|choice| choice.len() as f64)]
}

/// Of equal scores, the first.
fn first_highest(scores: impl Iterator<Item = f64>) -> usize {
    let higher = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    scores.enumerate().fold((0, f64::NEG_INFINITY), higher).0
}

/// Share of right answers, and its standard error.
fn accuracy(right: &[f64]) -> (f64, f64) {
    (stats::mean(right), stats::sd(right) / (right.len() as f64).sqrt())
}

fn in_json(right: &[Vec<f64>; 3], whole: bool) -> Value {
    let mut all = json!({ "questions": right[0].len(), "whole": whole });
    for (name, right) in METRICS.iter().zip(right) {
        let (value, error) = accuracy(right);
        all[*name] = json!({ "value": value, "standard_error": error });
    }
    all
}

/// Of the questions that were answered, of `n_asked`.
fn in_words(right: &[Vec<f64>; 3], items: &[Item], n_asked: usize) -> String {
    let columns = vec![
        Column::text("metric"),
        Column::number("accuracy", ""),
        Column::number("standard error", ""),
        Column::text("compares log-likelihoods"),
    ];
    let how = ["as they are", "divided by characters", "divided by bytes"];
    let row = |((name, how), right): ((&&str, &str), &Vec<f64>)| {
        let (value, error) = accuracy(right);
        let error = if error.is_finite() { Cell::number(error, 2) } else { Cell::Empty };
        vec![Cell::from(*name), Cell::number(value, 3), error, Cell::from(how)]
    };
    let rows = METRICS.iter().zip(how).zip(right).map(row).collect();
    let guess =
        stats::mean(&items.iter().map(|item| 1.0 / item.choices.len() as f64).collect::<Vec<_>>());
    let n = match items.len() == n_asked {
        true => counted(n_asked as u64, "question"),
        false => format!("{} of {n_asked} questions, then it was stopped", items.len()),
    };
    let note = format!("{n}; a guess is right {:.1} % of the time.", 100.0 * guess);
    let table = Table { caption: String::new(), columns, rows }.to_terminal(80);
    format!("{table}\n{}", wrapped("", "", &note))
}

fn progress(done: usize, all: usize) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _ = write!(
            out,
            "\r\x1b[K{}",
            if done == all { String::new() } else { format!("{done} of {all}") }
        );
        let _ = out.flush();
    }
}

#[cfg(test)]
mod tests;
