//! The model's answers.

use std::cell::Cell;
use std::ops::ControlFlow;

use anyhow::Result;
use forerun_arch::Generation;
use forerun_runs::seed::Seed;
use forerun_tokens::{ChatMessage, ChatOptions};

use super::Question;
use super::files::Answer;
use crate::cli::tell;
use crate::commands::length_note;
use crate::interrupt;
use crate::pretrained::Pretrained;

/// What answers.
pub(super) struct Writer {
    pretrained: Pretrained,
    max_new_tokens: usize,
    seed: u64,
    /// Whether it was said that a text may outgrow the model.
    told: Cell<bool>,
}

/// Temperatures by category, as in FastChat's `llm_judge`.
fn temperature(category: &str) -> f64 {
    match category {
        "writing" | "roleplay" => 0.7,
        "stem" | "humanities" => 0.1,
        _ => 0.0, // extraction, math, coding, reasoning
    }
}

impl Writer {
    pub(super) fn new(pretrained: Pretrained, max_new_tokens: usize, seed: u64) -> Self {
        Self { pretrained, max_new_tokens, seed, told: Cell::new(false) }
    }

    /// Answers questions of one category side by side, both turns; none after Ctrl-C.
    pub(super) fn answer(&self, questions: &[&Question]) -> Result<Option<Vec<Answer>>> {
        let mut talks: Vec<Vec<ChatMessage>> = vec![Vec::new(); questions.len()];
        for turn in 0..2 {
            for (talk, question) in talks.iter_mut().zip(questions) {
                talk.push(ChatMessage::user(&question.turns[turn]));
            }
            let Some(said) = self.turn(questions, &talks, turn)? else { return Ok(None) };
            for (talk, said) in talks.iter_mut().zip(said) {
                talk.push(ChatMessage::assistant(said));
            }
        }
        let answer = |(question, talk): (&&Question, &Vec<ChatMessage>)| Answer {
            question_id: question.question_id,
            category: question.category.clone(),
            turns: [1, 3].map(|place| talk[place].content.clone()),
        };
        Ok(Some(questions.iter().zip(&talks).map(answer).collect()))
    }

    /// Says once that a text may outgrow the model.
    fn warn_of_length(&self, longest: usize) {
        let note = length_note(&self.pretrained, longest, self.max_new_tokens);
        if let Some(note) = note.filter(|_| !self.told.replace(true)) {
            tell(&note);
        }
    }

    fn turn(
        &self,
        questions: &[&Question],
        talks: &[Vec<ChatMessage>],
        turn: usize,
    ) -> Result<Option<Vec<String>>> {
        let tokenizer = &self.pretrained.tokenizer;
        let chat = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
        let prompts: Vec<Vec<i64>> = talks
            .iter()
            .map(|talk| Ok(Pretrained::ids(tokenizer.encode_chat(talk, &chat)?)))
            .collect::<Result<_>>()?;
        let prompts: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
        self.warn_of_length(prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0));
        let options = Generation {
            max_new_tokens: self.max_new_tokens,
            temperature: temperature(&questions[0].category),
            stop_tokens: self.pretrained.defaults.eos_tokens.clone(),
            ..Generation::default()
        };
        let seed = Seed::new(self.seed);
        let label = |question: &&Question| format!("mt-bench/{}/{turn}", question.question_id);
        let mut rngs: Vec<_> =
            questions.iter().map(|question| seed.stream(&label(question))).collect();
        let new =
            self.pretrained.model.generate_batch(&prompts, &options, &mut rngs, &mut |_, _| {
                if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        if interrupt::asked() {
            return Ok(None);
        }
        let text = |ids: &Vec<i64>| -> Result<String> {
            let ids: Result<Vec<u32>, _> = ids.iter().map(|&id| u32::try_from(id)).collect();
            Ok(tokenizer.tokenizer().decode(&ids?)?.trim().to_owned())
        };
        Ok(Some(new.iter().map(text).collect::<Result<_>>()?))
    }
}
