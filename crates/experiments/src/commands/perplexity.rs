//! `perplexity`: how well a model predicts texts, for each token and for each byte.

mod windows;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use forerun_runs::stats::{Interval, student_interval};
use forerun_runs::table::{Cell, Column, Table};
use serde_json::{Value, json};

use super::ModelArgs;
use super::texts::{self, Text};
use crate::cli::{say, tell};
use crate::interrupt::{self, INTERRUPTED};
use crate::plan::{counted, wrapped};
use crate::pretrained::{Place, Pretrained};
use windows::{Window, windows};

const CONFIDENCE: f64 = 0.95;
/// Tokens of a window, unless the model is made for less.
const WINDOW: usize = 1024;
/// More texts are shown together only.
const MAX_ROWS: usize = 20;

/// The command line of `perplexity`.
#[derive(Args, Debug)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Texts: .txt, .md, .jsonl or .parquet, the first three also .gz or .zst; each document is one.
    #[arg(value_name = "FILE", required_unless_present = "books")]
    files: Vec<PathBuf>,
    /// The four embedded novels; without texts of its own `quantize` calibrates on three of them.
    #[arg(long)]
    books: bool,
    /// Tokens that the model sees at a time [default: 1024, or what the model is made for if that is less].
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Tokens from one window to the next: each is scored once, after at least window - stride others of its text.
    /// [default: half the window]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Tokens of each text, from its beginning [default: all].
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// One JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

/// What was found about a text, or about all of them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Score {
    /// Negative log-likelihood in nats, and tokens, of each piece: what one window scores.
    pieces: Vec<(f64, usize)>,
    bytes: usize,
    characters: usize,
    /// Tokens that the texts have beyond those that were scored.
    n_left: usize,
}

/// A mean over pieces with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mean {
    value: f64,
    interval: Option<Interval>,
}

impl Score {
    fn n_tokens(&self) -> usize {
        self.pieces.iter().map(|piece| piece.1).sum()
    }

    fn nats(&self) -> f64 {
        self.pieces.iter().map(|piece| piece.0).sum()
    }

    fn join(&mut self, other: &Self) {
        self.pieces.extend(&other.pieces);
        self.bytes += other.bytes;
        self.characters += other.characters;
        self.n_left += other.n_left;
    }

    /// Nats a token. The interval takes the pieces as independent, which neighbours are not quite.
    fn nats_per_token(&self) -> Mean {
        let (n_pieces, n_tokens) = (self.pieces.len() as f64, self.n_tokens() as f64);
        let value = self.nats() / n_tokens;
        // A ratio of sums: its linearisation has the ratio's mean, and the spread of what pieces add to it.
        let linear =
            |(nats, n): &(f64, usize)| value + n_pieces * (nats - value * *n as f64) / n_tokens;
        let parts: Vec<f64> = self.pieces.iter().map(linear).collect();
        Mean { value, interval: student_interval(&parts, CONFIDENCE).ok() }
    }

    /// `factor` times the nats a token, the factor taken as known.
    fn scaled(&self, factor: f64) -> Mean {
        let Mean { value, interval } = self.nats_per_token();
        let scale = |Interval { low, high }| Interval { low: low * factor, high: high * factor };
        Mean { value: value * factor, interval: interval.map(scale) }
    }

    fn per_token(&self) -> Mean {
        self.nats_per_token().exp()
    }

    fn bits_per_byte(&self) -> Mean {
        self.scaled(self.n_tokens() as f64 / self.bytes as f64 / std::f64::consts::LN_2)
    }

    fn per_character(&self) -> Mean {
        self.scaled(self.n_tokens() as f64 / self.characters as f64).exp()
    }

    fn to_json(&self, name: &str) -> Value {
        json!({
            "text": name,
            "tokens": self.n_tokens(),
            "tokens_left_out": self.n_left,
            "bytes": self.bytes,
            "characters": self.characters,
            "pieces": self.pieces.len(),
            "nats": self.nats(),
            "perplexity_per_token": self.per_token().to_json(),
            "bits_per_byte": self.bits_per_byte().to_json(),
            "perplexity_per_character": self.per_character().to_json(),
        })
    }

    fn row(&self, name: &str) -> Vec<Cell> {
        vec![
            Cell::from(name),
            Cell::Count(self.n_tokens() as u64),
            self.per_token().cell(),
            self.per_character().cell(),
            self.bits_per_byte().cell(),
        ]
    }
}

impl Mean {
    fn exp(self) -> Self {
        let exp = |Interval { low, high }| Interval { low: low.exp(), high: high.exp() };
        Self { value: self.value.exp(), interval: self.interval.map(exp) }
    }

    fn cell(self) -> Cell {
        match self.interval {
            Some(Interval { low, high }) => Cell::range(self.value, low, high),
            None => Cell::number(self.value, 4),
        }
    }

    fn to_json(self) -> Value {
        json!({ "value": self.value, "interval": self.interval })
    }
}

/// Runs the command; the exit status is 130 after Ctrl-C.
pub(crate) fn perplexity(args: &PerplexityArgs) -> Result<i32> {
    let made_for = Place::find(&args.model.model)?.config()?.max_seq_len;
    let (window, stride) = sizes(args, usize::try_from(made_for).unwrap_or(usize::MAX))?;
    let mut all = texts::of_files(&args.files)?;
    if args.books {
        all.extend(texts::books(None)?);
    }
    let pretrained = args.model.load()?;
    interrupt::install();
    let mut scores: Vec<(String, Score)> = Vec::new();
    let mut n_empty = 0;
    for text in &all {
        let score = score(&pretrained, text, window, stride, args.max_tokens)?;
        match score.pieces.is_empty() {
            false => scores.push((text.name.clone(), score)),
            true if !interrupt::asked() => n_empty += 1,
            true => {}
        }
        if interrupt::asked() {
            break;
        }
    }
    if scores.is_empty() {
        ensure!(interrupt::asked(), nothing_to_predict(&all));
        tell("stopped before anything was scored");
        return Ok(INTERRUPTED);
    }
    let mut total = Score::default();
    scores.iter().for_each(|(_, score)| total.join(score));
    let notes = Notes {
        n_texts: all.len(),
        n_empty,
        stopped: interrupt::asked(),
        held_out: if args.books { held_out()? } else { None },
    };
    if args.json {
        let each: Vec<Value> = scores.iter().map(|(name, score)| score.to_json(name)).collect();
        let mut whole = total.to_json("all");
        whole["window"] = json!(window);
        whole["stride"] = json!(stride);
        whole["texts"] = json!(each);
        whole["texts_without_tokens"] = json!(n_empty);
        whole["whole"] = json!(!notes.stopped);
        say(&whole.to_string());
    } else {
        say(&(in_words(&scores, &total, window, stride) + &notes.in_words(scores.len())));
    }
    Ok(if notes.stopped { INTERRUPTED } else { 0 })
}

fn nothing_to_predict(texts: &[Text]) -> String {
    match texts {
        [only] => format!("`{}` has no token to predict", only.name),
        several => format!("none of the {} texts has a token to predict", several.len()),
    }
}

/// What a table does not show by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Notes {
    /// All that were named.
    n_texts: usize,
    /// Those without a token to predict.
    n_empty: u64,
    /// Whether Ctrl-C came before the end.
    stopped: bool,
    /// The embedded book that `quantize` does not look at, if those were read.
    held_out: Option<String>,
}

impl Notes {
    fn in_words(&self, n_scored: usize) -> String {
        let mut notes = Vec::new();
        if self.stopped {
            notes.push(format!(
                "Stopped before the end: {n_scored} of {} are here, the last perhaps in part.",
                counted(self.n_texts as u64, "text")
            ));
        }
        if self.n_empty > 0 {
            notes.push(format!("{} had nothing to predict.", counted(self.n_empty, "text")));
        }
        if let Some(title) = &self.held_out {
            notes.push(format!(
                "Unless it was given --text, quantize calibrated on all of the embedded novels but {title}: of a model of its \
                 making, that one alone is new to it."
            ));
        }
        notes.iter().map(|note| wrapped("", "", note)).collect()
    }
}

fn held_out() -> Result<Option<String>> {
    Ok(texts::books(Some("validation"))?.into_iter().next().map(|text| text.name))
}

/// Window and stride, for a model that was made for so many tokens.
fn sizes(args: &PerplexityArgs, made_for: usize) -> Result<(usize, usize)> {
    let window = args.window.unwrap_or(WINDOW.min(made_for));
    if window > made_for {
        tell(&format!(
            "note: --window {window} is more than the {made_for} tokens that the model was made for: what comes after them \
             shows how it extrapolates"
        ));
    }
    ensure!(window >= 2, "--window must be at least 2, got {window}");
    let stride = args.stride.unwrap_or(window / 2).max(1);
    ensure!(
        args.stride != Some(0) && stride < window,
        "--stride must be from 1 to {}, below the window, got {}",
        window - 1,
        args.stride.unwrap_or(stride)
    );
    ensure!(args.max_tokens != Some(0), "--max-tokens must be at least 1, got 0");
    Ok((window, stride))
}

/// Scores one text: no piece if it has no token to predict; after Ctrl-C, what there is of it.
fn score(
    pretrained: &Pretrained,
    text: &Text,
    window: usize,
    stride: usize,
    max_tokens: Option<usize>,
) -> Result<Score> {
    let tokenizer = pretrained.tokenizer.tokenizer();
    let ids = tokenizer.encode(&text.text)?;
    let n_read = max_tokens.unwrap_or(usize::MAX).min(ids.len());
    let before = before(pretrained)?;
    let n_before = before.len();
    let read = [before, Pretrained::ids(ids[..n_read].to_vec())].concat();
    let plan = windows(read.len(), n_before.max(1), window, stride);
    if plan.is_empty() {
        return Ok(Score::default());
    }
    let mut score = Score::default();
    let mut end = n_before.max(1);
    for (index, Window { from, scored }) in plan.iter().enumerate() {
        if interrupt::asked() {
            break;
        }
        let log_probs = pretrained.model.log_probs(&read[*from..scored.end])?;
        let nats = -log_probs[scored.start - from - 1..].iter().sum::<f64>();
        score.pieces.push((nats, scored.len()));
        end = scored.end;
        progress(&text.name, index + 1, plan.len());
    }
    let (first, end) = (n_before.max(1) - n_before, end - n_before);
    let decoded = match end - first == ids.len() {
        true => text.text.clone(),
        false => tokenizer.decode(&ids[first..end])?,
    };
    (score.bytes, score.characters) = (decoded.len(), decoded.chars().count());
    score.n_left = ids.len() - (end - first);
    Ok(score)
}

/// What the first token of a text is predicted from: what the tokenizer puts before every text, or else the token that
/// begins or ends one; nothing if there is none, and then the first token is not scored.
fn before(pretrained: &Pretrained) -> Result<Vec<i64>> {
    let tokenizer = &pretrained.tokenizer;
    let own = Pretrained::ids(tokenizer.encode_prompt("")?);
    let other = tokenizer.bos_id().or(tokenizer.eos_id()).map(i64::from);
    Ok(if own.is_empty() { other.into_iter().collect() } else { own })
}

/// A line on a terminal, which the next one replaces; nothing elsewhere.
fn progress(name: &str, done: usize, all: usize) {
    use std::io::{IsTerminal, Write};
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let end = if done == all { "\r\x1b[K" } else { "" };
        let _ = write!(out, "\r\x1b[K{name}: window {done} of {all}{end}");
        let _ = out.flush();
    }
}

fn in_words(scores: &[(String, Score)], total: &Score, window: usize, stride: usize) -> String {
    let columns = vec![
        Column::text("text"),
        Column::number("tokens", ""),
        Column::number("perplexity", "a token"),
        Column::number("perplexity", "a character"),
        Column::number("bits", "a byte"),
    ];
    let mut rows: Vec<Vec<Cell>> =
        scores.iter().take(MAX_ROWS).map(|(name, score)| score.row(name)).collect();
    if scores.len() > MAX_ROWS {
        rows.clear();
    }
    if scores.len() > 1 {
        rows.push(total.row(&format!("all {}", scores.len())));
    }
    let caption = format!(
        "Windows of {window} tokens, {stride} from one to the next: every token is scored once, the first ones of a text \
         after fewer, all others after at least {} tokens. Intervals: 95 %, over the {} windows.",
        window - stride,
        total.pieces.len()
    );
    let mut text = Table { caption: String::new(), columns, rows }.to_terminal(80);
    text.push('\n');
    text.push_str(&wrapped("", "", &caption));
    if total.n_left > 0 {
        text.push_str(&wrapped("", "", &format!("{} tokens were left out.", total.n_left)));
    }
    text
}

#[cfg(test)]
mod tests;
