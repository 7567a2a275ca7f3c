//! Questions from JSON lines.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Where it stands in the file, counted from 1.
    pub(super) line: usize,
    /// What the choices follow; may be empty.
    pub(super) context: String,
    /// Two or more, none empty.
    pub(super) choices: Vec<String>,
    /// Index of the right one.
    pub(super) answer: usize,
}

/// The questions of a file.
pub(super) fn read(path: &Path) -> Result<Vec<Item>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let items: Result<Vec<Item>> = lines
        .map(|(index, line)| {
            let line_number = index + 1;
            parse(line, line_number)
                .with_context(|| format!("`{}` line {line_number}", path.display()))
        })
        .collect();
    let items = items?;
    ensure!(!items.is_empty(), "`{}` holds no question", path.display());
    Ok(items)
}

pub(super) fn parse(text: &str, line: usize) -> Result<Item> {
    let fields: Map<String, Value> = serde_json::from_str(text).context("is no JSON object")?;
    let context = match (fields.get("question"), fields.get("context")) {
        (Some(_), Some(_)) => bail!("has both `question` and `context`, which mean the same"),
        (Some(Value::String(text)), None) | (None, Some(Value::String(text))) => text.clone(),
        (None, None) => bail!("has neither `question` nor `context`"),
        _ => bail!("its `question` is no text"),
    };
    let choices =
        fields.get("choices").and_then(Value::as_array).context("has no list `choices`")?;
    let choices: Option<Vec<String>> =
        choices.iter().map(|choice| Some(choice.as_str()?.to_owned())).collect();
    let choices = choices.context("its `choices` are not all texts")?;
    ensure!(choices.len() > 1, "`choices` must be two or more, got {}", choices.len());
    ensure!(choices.iter().all(|choice| !choice.is_empty()), "one of its `choices` is empty");
    let answer = fields.get("answer").context("has no `answer`")?;
    let answer = index_of(answer, &choices).with_context(|| {
        format!(
            "its `answer` {answer} is neither a number from 0 to {}, nor a letter, nor a choice",
            choices.len() - 1
        )
    })?;
    Ok(Item { line, context, choices, answer })
}

fn index_of(answer: &Value, choices: &[String]) -> Option<usize> {
    let index = match answer {
        Value::Number(number) => usize::try_from(number.as_u64()?).ok()?,
        Value::String(text) => match choices.iter().position(|choice| choice == text) {
            Some(index) => index,
            None => match text.trim().as_bytes() {
                [letter @ b'A'..=b'Z'] => usize::from(letter - b'A'),
                [letter @ b'a'..=b'z'] => usize::from(letter - b'a'),
                _ => return None,
            },
        },
        _ => return None,
    };
    (index < choices.len()).then_some(index)
}

#[cfg(test)]
mod tests;
