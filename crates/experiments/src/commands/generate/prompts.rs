//! Where prompts come from, and what the model reads.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use forerun_tokens::{ChatMessage, ChatOptions, ModelTokenizer};

use super::PromptArgs;
use crate::cli::tell;
use crate::pretrained::Pretrained;

/// A prompt, and what the model reads of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prompt {
    /// As it was given.
    pub(super) text: String,
    /// With what the model wants around it.
    pub(super) ids: Vec<i64>,
    /// Tokens that may follow it; at least 1.
    pub(super) limit: usize,
}

impl PromptArgs {
    /// The prompts as they were given: those of the command line, files, lines of files.
    pub(super) fn texts(&self) -> Result<Vec<String>> {
        let mut texts = self.prompt.clone();
        for file in &self.prompt_file {
            texts.push(without_last_break(read(file)?));
        }
        for file in &self.prompt_lines {
            let text = read(file)?;
            let before = texts.len();
            texts.extend(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
            ensure!(texts.len() > before, "`{}` has no line that is not blank", file.display());
        }
        if texts.is_empty() {
            texts.push(standard_input()?);
        }
        Ok(texts)
    }

    /// What the model reads; `limit` says how many tokens may follow so many.
    pub(super) fn encoded(
        &self,
        texts: Vec<String>,
        tokenizer: &ModelTokenizer,
        limit: impl Fn(usize) -> Result<usize>,
    ) -> Result<Vec<Prompt>> {
        let chat = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
        let encode = |text: String| -> Result<Prompt> {
            let ids = match self.chat {
                false => tokenizer.encode_prompt(&text)?,
                true => {
                    let system = self.system.iter().map(ChatMessage::system);
                    let messages: Vec<_> = system.chain([ChatMessage::user(&text)]).collect();
                    tokenizer.encode_chat(&messages, &chat)?
                }
            };
            let mut ids = Pretrained::ids(ids);
            if ids.is_empty() {
                // Nothing to continue: the beginning of a text.
                let start = tokenizer.bos_id().or(tokenizer.eos_id()).map(i64::from);
                ids.push(start.context(
                    "the prompt is empty, and the model has no token that begins a text",
                )?);
            }
            let limit = limit(ids.len())?;
            Ok(Prompt { text, ids, limit })
        };
        texts.into_iter().map(encode).collect()
    }
}

fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => bail!("`{}` is not UTF-8", file.display()),
    }
}

fn standard_input() -> Result<String> {
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        tell("the prompt, please; Ctrl-D ends it");
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).context("cannot read standard input")?;
    let Ok(text) = String::from_utf8(bytes) else { bail!("standard input is not UTF-8") };
    Ok(without_last_break(text))
}

/// Editors and `echo` end a text with a line break that nobody meant.
fn without_last_break(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
