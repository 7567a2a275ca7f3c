//! Texts that are written side by side and shown one after the other, as far as each is decided.

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::Result;
use forerun_arch::Chosen;
use forerun_tokens::{StopStrings, StreamDecoder, Tokenizer};
use serde_json::json;

use super::prompts::Prompt;

/// How a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With a token that ends texts.
    Token,
    /// With a stop string.
    Stop,
    /// At the greatest length.
    Length,
    /// Ctrl-C.
    Interrupted,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Token => "end-token",
            Self::Stop => "stop-string",
            Self::Length => "length",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    /// Texts end before the first of these.
    pub(super) stops: &'a [String],
    /// JSON lines, one a token.
    pub(super) log_probs: bool,
    /// A line above each text.
    pub(super) headings: bool,
}

/// One text.
struct Text<'t> {
    heading: Option<String>,
    /// What nobody has seen yet.
    waiting: String,
    decoder: Option<StreamDecoder<'t>>,
    stops: StopStrings,
    n_tokens: usize,
    /// As many as there may be.
    limit: usize,
    /// Everything so far, for JSON.
    whole: String,
}

/// Texts that are being written; the first that is not done is shown as it grows, later ones wait for it.
pub(super) struct Session<'t, W> {
    texts: Vec<Text<'t>>,
    tokenizer: &'t Tokenizer,
    /// The text that is shown.
    current: usize,
    /// Number of the first text among all of the command.
    first: usize,
    log_probs: bool,
    out: W,
}

impl<'t, W: Write> Session<'t, W> {
    pub(super) fn new(
        prompts: &[Prompt],
        first: usize,
        tokenizer: &'t Tokenizer,
        settings: &Settings<'_>,
        out: W,
    ) -> Result<Self> {
        let stops = StopStrings::new(settings.stops.iter().cloned())?;
        let text = |(index, prompt): (usize, &Prompt)| Text {
            heading: settings.headings.then(|| heading(first + index, &prompt.text)),
            waiting: String::new(),
            decoder: Some(tokenizer.stream_decoder()),
            stops: stops.clone(),
            n_tokens: 0,
            limit: prompt.limit,
            whole: String::new(),
        };
        let texts = prompts.iter().enumerate().map(text).collect();
        let log_probs = settings.log_probs;
        let mut session = Self { texts, tokenizer, current: 0, first, log_probs, out };
        session.show()?;
        Ok(session)
    }

    /// Takes the next token of a text; breaks if a stop string is complete, or there may be no more tokens.
    pub(super) fn push(&mut self, index: usize, chosen: Chosen) -> Result<ControlFlow<()>> {
        self.texts[index].n_tokens += 1;
        // Each step goes through the texts in order: one that has fewer tokens than a later one has ended.
        while self.texts[self.current].n_tokens < self.texts[index].n_tokens && self.current < index
        {
            self.leave(None)?;
        }
        let id = u32::try_from(chosen.token)?;
        // A row of the embedding beyond the vocabulary stands for no text.
        let piece = match &mut self.texts[index].decoder {
            Some(decoder) if id < self.tokenizer.vocab_size() => decoder.push(id)?,
            _ => String::new(),
        };
        let text = &mut self.texts[index];
        let shown = text.stops.push(&piece);
        text.whole.push_str(&shown);
        if self.log_probs {
            let line = json!({
                "prompt": self.first + index, "token": id, "text": piece, "log_prob": chosen.log_prob,
            });
            text.waiting.push_str(&format!("{line}\n"));
        } else {
            text.waiting.push_str(&shown);
        }
        let ended = text.stops.found().is_some() || text.n_tokens == text.limit;
        if index == self.current {
            self.show()?;
        }
        Ok(if ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Shows what is left, when every text has ended as `ends` says; a stop string goes before what a text's length says.
    pub(super) fn finish(mut self, ends: Vec<End>) -> Result<()> {
        while self.current < self.texts.len() {
            let end = ends.get(self.current).copied();
            self.leave(end)?;
        }
        Ok(())
    }

    /// The current text has ended; how is known only in the end, and is said in JSON only.
    fn leave(&mut self, end: Option<End>) -> Result<()> {
        let index = self.current;
        let text = &mut self.texts[index];
        if let Some(decoder) = text.decoder.take() {
            let piece = decoder.finish()?;
            let mut rest = text.stops.push(&piece);
            if text.stops.found().is_none() {
                rest.push_str(&text.stops.clone().finish());
            }
            text.whole.push_str(&rest);
            if !self.log_probs {
                text.waiting.push_str(&rest);
            }
        }
        let stopped = text.stops.found().is_some();
        // Of those that end a text before the others, a token alone does so without a word.
        let silent = if text.n_tokens == text.limit { End::Length } else { End::Token };
        let end = if stopped { End::Stop } else { end.unwrap_or(silent) };
        if self.log_probs {
            let line =
                json!({ "prompt": self.first + index, "text": text.whole, "end": end.name() });
            text.waiting.push_str(&format!("{line}\n"));
        } else {
            text.waiting.push('\n');
        }
        self.show()?;
        self.current += 1;
        if self.current < self.texts.len() {
            self.show()?;
        }
        Ok(())
    }

    fn show(&mut self) -> Result<()> {
        let Some(text) = self.texts.get_mut(self.current) else { return Ok(()) };
        if let Some(heading) = text.heading.take() {
            self.out.write_all(heading.as_bytes())?;
        }
        self.out.write_all(text.waiting.as_bytes())?;
        text.waiting.clear();
        self.out.flush()?;
        Ok(())
    }
}

/// `[2] The beginning of the prompt…`, with a blank line above all but the first.
fn heading(index: usize, prompt: &str) -> String {
    const COLUMNS: usize = 72;
    let line = prompt.trim().lines().next().unwrap_or_default();
    let whole = line.chars().count() <= COLUMNS && line.len() == prompt.trim().len();
    let shown: String = line.chars().take(COLUMNS).collect();
    let blank = if index == 0 { "" } else { "\n" };
    format!("{blank}[{}] {shown}{}\n", index + 1, if whole { "" } else { "…" })
}
