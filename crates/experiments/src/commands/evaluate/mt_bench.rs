//! MT-Bench: 80 questions of two turns, answered by the model, graded from 1 to 10 by a judge.
//!
//! Zheng et al. 2023, arXiv:2306.05685. As in the authors' program, the temperature goes by the category, each turn is
//! graded by itself, and a model's score is the mean of all grades. Reference answers are shown to the judge for
//! mathematics, reasoning and coding where a question has one for every turn so far; the authors show GPT-4's for all of
//! these.

mod answers;
mod files;
mod score;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::super::ModelArgs;
use super::judge::{Exchange, Judge, prompt, rating};
use crate::cli::{say, tell};
use crate::interrupt::{self, INTERRUPTED};
use crate::pretrained::Place;
use answers::Writer;
use files::{Answer, Files, Grade};

const QUESTIONS: &str = include_str!("../../../assets/mt_bench/question.jsonl");

/// The command line of `evaluate mt-bench`.
#[derive(Args, Debug)]
pub(crate) struct MtBenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder for answers and grades; what is there already is not asked again.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write answers and stop.
    #[arg(long, conflicts_with = "judge")]
    answers_only: bool,
    /// The judge's endpoint, which speaks OpenAI's chat protocol: http://host:port/v1. Its key, if it wants one, is read
    /// from the environment variable FORERUN_JUDGE_KEY.
    #[arg(
        long,
        value_name = "URL",
        required_unless_present = "answers_only",
        requires = "judge_model"
    )]
    judge: Option<String>,
    /// The judge's name there.
    #[arg(long, value_name = "NAME")]
    judge_model: Option<String>,
    /// Tokens of an answer at most.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_new_tokens: usize,
    /// Questions that are answered side by side.
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// Questions of each category [default: all 10].
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Fixes what is drawn.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// A question of two turns.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Question {
    question_id: u64,
    category: String,
    turns: [String; 2],
    reference: Option<[String; 2]>,
}

impl Question {
    /// Whether the authors show the judge a right answer.
    fn wants_references(&self) -> bool {
        ["math", "reasoning", "coding"].contains(&self.category.as_str())
    }

    /// What the judge is shown as the right answer of a turn, counted from 0. An empty one would say that nothing is right.
    fn reference(&self, index: usize) -> Option<&str> {
        let both = self.reference.as_ref().filter(|_| self.wants_references())?;
        both.get(index).map(String::as_str).filter(|text| !text.trim().is_empty())
    }

    /// Whether a turn, counted from 1, is graded without the reference answers that the authors show.
    fn lacks_references(&self, turn: usize) -> bool {
        self.wants_references() && (0..turn).any(|index| self.reference(index).is_none())
    }
}

/// What answers depend on; a folder holds answers of one such.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    model: String,
    /// Of what the model's files hold; none where they cannot be read or nobody wrote it down, and then they are not compared.
    #[serde(default)]
    files_sha256: Option<String>,
    /// None where nobody wrote it down, and then it is not compared.
    #[serde(default)]
    tokenizer: Option<String>,
    precision: String,
    max_new_tokens: usize,
    seed: u64,
}

/// Runs the command; the exit status is 130 after Ctrl-C.
pub(crate) fn mt_bench(args: &MtBenchArgs) -> Result<i32> {
    ensure!(args.max_new_tokens > 0, "--max-new-tokens must be at least 1, got 0");
    ensure!(args.batch > 0, "--batch must be at least 1, got 0");
    let judge = match (&args.judge, &args.judge_model) {
        (Some(url), Some(model)) => Some(Judge::new(url, model)?),
        _ => None,
    };
    let questions = questions(args.limit)?;
    let settings = settings(args);
    let files = Files::open(&args.out, &settings)?;
    interrupt::install();
    answer(args, &files, &questions)?;
    let Some(judge) = judge.filter(|_| !interrupt::asked()) else {
        return Ok(done(&format!("answers: {}", files.answers().display())));
    };
    grade(&judge, &files, &questions)?;
    let grades = files.grades(judge.model())?;
    if !grades.is_empty() {
        say(&score::in_words(&questions, &grades, judge.model()));
    }
    Ok(done(&format!("grades: {}", files.grades_file().display())))
}

fn settings(args: &MtBenchArgs) -> Settings {
    let own = || "the model's own".to_owned();
    Settings {
        model: args.model.model.clone(),
        files_sha256: Place::find(&args.model.model).and_then(|place| place.fingerprint()).ok(),
        tokenizer: Some(args.model.tokenizer.clone().unwrap_or_else(own)),
        precision: args
            .model
            .precision
            .map_or_else(|| "as stored".to_owned(), |kind| format!("{kind:?}")),
        max_new_tokens: args.max_new_tokens,
        seed: args.seed,
    }
}

fn done(text: &str) -> i32 {
    tell(text);
    if interrupt::asked() { INTERRUPTED } else { 0 }
}

fn questions(limit: Option<usize>) -> Result<Vec<Question>> {
    ensure!(limit != Some(0), "--limit must be at least 1, got 0");
    let all: Result<Vec<Question>, _> = QUESTIONS.lines().map(serde_json::from_str).collect();
    let all = all.context("the embedded questions are damaged")?;
    let mut kept: Vec<Question> = Vec::new();
    for question in all {
        let n = kept.iter().filter(|other| other.category == question.category).count();
        if n < limit.unwrap_or(usize::MAX) {
            kept.push(question);
        }
    }
    Ok(kept)
}

/// Answers what has no answer yet.
fn answer(args: &MtBenchArgs, files: &Files, questions: &[Question]) -> Result<()> {
    let there = files.read_answers()?;
    let missing: Vec<&Question> = questions
        .iter()
        .filter(|question| !there.iter().any(|answer| answer.question_id == question.question_id))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let writer = Writer::new(args.model.load()?, args.max_new_tokens, args.seed);
    let mut n_done = questions.len() - missing.len();
    // Of one category together, as these share a temperature.
    for same in missing.chunk_by(|a, b| a.category == b.category) {
        for batch in same.chunks(args.batch) {
            let Some(answers) = writer.answer(batch)? else { return Ok(()) };
            for answer in answers {
                files.add_answer(&answer)?;
            }
            n_done += batch.len();
            tell(&format!(
                "answered {n_done} of {} questions ({})",
                questions.len(),
                batch[0].category
            ));
        }
    }
    Ok(())
}

/// Has graded what has no grade of this judge yet.
fn grade(judge: &Judge, files: &Files, questions: &[Question]) -> Result<()> {
    let (answers, there) = (files.read_answers()?, files.grades(judge.model())?);
    for (index, question) in questions.iter().enumerate() {
        let answer = answers.iter().find(|answer| answer.question_id == question.question_id);
        let Some(answer) = answer else { bail!("question {} has no answer", question.question_id) };
        for turn in 1..=2 {
            let is_this =
                |grade: &&Grade| grade.question_id == question.question_id && grade.turn == turn;
            if there.iter().any(|grade| is_this(&grade) && grade.rating.is_some()) {
                continue;
            }
            if interrupt::asked() {
                return Ok(());
            }
            let text = match judge.ask(&prompt(&exchanges(question, answer, turn))?) {
                Err(_) if interrupt::asked() => return Ok(()),
                answer => answer?,
            };
            let rating = rating(&text);
            let judge = judge.model().to_owned();
            files.add_grade(&Grade {
                question_id: question.question_id,
                turn,
                judge,
                rating,
                text,
            })?;
        }
        tell(&format!("graded {} of {} questions", index + 1, questions.len()));
    }
    Ok(())
}

/// The conversation up to `turn`, counted from 1.
fn exchanges<'a>(question: &'a Question, answer: &'a Answer, turn: usize) -> Vec<Exchange<'a>> {
    let exchange = |index: usize| Exchange {
        question: &question.turns[index],
        answer: &answer.turns[index],
        reference: question.reference(index),
    };
    (0..turn).map(exchange).collect()
}

#[cfg(test)]
mod tests;
