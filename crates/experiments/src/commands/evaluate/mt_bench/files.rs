//! Answers and grades on disk: JSON lines that are added to, so that a run that was stopped goes on.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use forerun_runs::atomic::{read_json, write_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Settings;

/// What the model said in both turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) question_id: u64,
    pub(super) category: String,
    pub(super) turns: [String; 2],
}

/// What a judge said of a turn, counted from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Grade {
    pub(super) question_id: u64,
    pub(super) turn: usize,
    pub(super) judge: String,
    /// None if the judge gave none that can be read; it is asked again the next time.
    pub(super) rating: Option<f64>,
    pub(super) text: String,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Makes the folder, or goes on in one with the same settings.
    pub(super) fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        let path = dir.join("settings.json");
        if path.is_file() {
            let there: Settings = read_json(&path)?;
            let differences = differences(&there, settings);
            if !differences.is_empty() {
                bail!(
                    "`{}` holds answers of other settings ({}); choose another --out",
                    dir.display(),
                    differences.join(", ")
                );
            }
        } else {
            write_json(&path, settings)?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    pub(super) fn answers(&self) -> PathBuf {
        self.dir.join("answers.jsonl")
    }

    pub(super) fn grades_file(&self) -> PathBuf {
        self.dir.join("grades.jsonl")
    }

    pub(super) fn read_answers(&self) -> Result<Vec<Answer>> {
        read(&self.answers())
    }

    pub(super) fn add_answer(&self, answer: &Answer) -> Result<()> {
        add(&self.answers(), answer)
    }

    /// The last grade of each turn by a judge.
    pub(super) fn grades(&self, judge: &str) -> Result<Vec<Grade>> {
        let all: Vec<Grade> = read(&self.grades_file())?;
        let mut last: Vec<Grade> = Vec::new();
        for grade in all.into_iter().filter(|grade| grade.judge == judge) {
            last.retain(|other| (other.question_id, other.turn) != (grade.question_id, grade.turn));
            last.push(grade);
        }
        Ok(last)
    }

    pub(super) fn add_grade(&self, grade: &Grade) -> Result<()> {
        add(&self.grades_file(), grade)
    }
}

/// `model: a, not b`.
fn differences(there: &Settings, asked: &Settings) -> Vec<String> {
    let fields = |settings: &Settings| {
        let Settings { model, files_sha256: _, tokenizer, precision, max_new_tokens, seed } =
            settings;
        [
            ("model", Some(model.clone())),
            ("tokenizer", tokenizer.clone()),
            ("precision", Some(precision.clone())),
            ("max-new-tokens", Some(max_new_tokens.to_string())),
            ("seed", Some(seed.to_string())),
        ]
    };
    let pairs = fields(there).into_iter().zip(fields(asked));
    let mut found: Vec<String> = pairs
        .filter_map(|((name, then), (_, now))| Some((name, then?, now?)))
        .filter(|(_, then, now)| then != now)
        .map(|(name, then, now)| format!("{name}: {then}, not {now}"))
        .collect();
    if matches!((&there.files_sha256, &asked.files_sha256), (Some(then), Some(now)) if then != now)
    {
        found.push("the model's files have changed since".to_owned());
    }
    found
}

/// The lines of a file, none if it is not there. A last line that was cut off by a kill is left out.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
        }
    };
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let parse = |(index, line): (usize, &str)| {
        let place = || format!("`{}` line {}", path.display(), index + 1);
        serde_json::from_str(line).with_context(place)
    };
    whole.lines().enumerate().map(parse).collect()
}

fn add(path: &Path, value: &impl Serialize) -> Result<()> {
    let there = fs::read(path).unwrap_or_default();
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let failed = || format!("cannot write `{}`", path.display());
    let mut file = File::options().create(true).append(true).open(path).with_context(failed)?;
    let whole = there.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    if whole < there.len() {
        file.set_len(whole as u64).with_context(failed)?; // what a kill left of a line
    }
    file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).with_context(failed)
}
