//! What a judge is asked, in the words of MT-Bench's authors (`assets/mt_bench/judge_prompts.jsonl`).

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Request;

const PROMPTS: &str = include_str!("../../../../assets/mt_bench/judge_prompts.jsonl");

#[derive(Deserialize)]
struct Template {
    name: String,
    system_prompt: String,
    prompt_template: String,
}

/// What was said in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Exchange<'a> {
    pub(in super::super) question: &'a str,
    pub(in super::super) answer: &'a str,
    /// What would have been right, if that is to be shown.
    pub(in super::super) reference: Option<&'a str>,
}

/// The request to grade the last of one or two turns.
pub(in super::super) fn prompt(turns: &[Exchange<'_>]) -> Result<Request> {
    let with_reference = turns.iter().all(|turn| turn.reference.is_some());
    let name = match (turns.len(), with_reference) {
        (1, false) => "single-v1",
        (1, true) => "single-math-v1",
        (_, false) => "single-v1-multi-turn",
        (_, true) => "single-math-v1-multi-turn",
    };
    let Template { system_prompt, prompt_template, .. } = template(name)?;
    let mut values = Vec::new();
    for (index, turn) in turns.iter().enumerate() {
        let number = index + 1;
        values.push((format!("{{question_{number}}}"), turn.question));
        values.push((format!("{{answer_{number}}}"), turn.answer));
        values.push((format!("{{ref_answer_{number}}}"), turn.reference.unwrap_or_default()));
        if turns.len() == 1 {
            values.push(("{question}".to_owned(), turn.question));
            values.push(("{answer}".to_owned(), turn.answer));
        }
    }
    Ok(Request { system: system_prompt, user: filled(&prompt_template, &values) })
}

fn template(name: &str) -> Result<Template> {
    let templates = PROMPTS.lines().map(serde_json::from_str::<Template>);
    for template in templates {
        let template = template.context("the embedded prompts of judges are damaged")?;
        if template.name == name {
            return Ok(template);
        }
    }
    anyhow::bail!("there is no prompt `{name}`")
}

/// Every placeholder once, from left to right: what is put in is not looked at again.
fn filled(template: &str, values: &[(String, &str)]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        match values.iter().find(|(name, _)| rest.starts_with(name.as_str())) {
            Some((name, value)) => {
                text.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                text.push('{');
                rest = &rest[1..];
            }
        }
    }
    text.push_str(rest);
    text
}
