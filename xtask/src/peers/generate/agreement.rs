//! Log-probabilities of the same tokens of a book, by several programs.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::runner::Runner;
use crate::disk;

/// Tokens of the text.
pub(super) const TOKENS: u32 = 256;

/// What the programs, ours with f32 and with packed weights and llama.cpp, say of a text of `books`, whose ids are written to `text`.
pub(super) fn compare(mut programs: [Runner; 3], books: &Path, text: &Path) -> Result<String> {
    let answer = programs[0].process.ask(&format!("text {TOKENS} {}", books.display()))?;
    let ids = answer["ids"].as_array().with_context(|| format!("forerun said {answer}"))?;
    fs::write(text, Value::from(ids.clone()).to_string())
        .map_err(|error| disk::explain(error, text))?;
    let mut found = Vec::new();
    for program in &mut programs {
        let answer = program.process.ask(&format!("log_probs {}", text.display()))?;
        let log_probs: Option<Vec<f64>> =
            answer["log_probs"].as_array().and_then(|all| all.iter().map(Value::as_f64).collect());
        let log_probs = log_probs.with_context(|| format!("{} said {answer}", program.name))?;
        let (want, got) = (ids.len() - 1, log_probs.len());
        ensure!(got == want, "{} said {got} log-probabilities of {want}", program.name);
        found.push(log_probs);
    }
    let named = ["ours, f32", "ours, packed", "llama.cpp"].into_iter().zip(found).collect();
    Ok(render(named))
}

fn render(found: Vec<(&str, Vec<f64>)>) -> String {
    let n = found.first().map_or(0, |(_, log_probs)| log_probs.len());
    let mut text =
        format!("Log-probabilities of {n} tokens of a book, each given those before, in nats\n");
    for (name, log_probs) in &found {
        let mean = log_probs.iter().sum::<f64>() / log_probs.len().max(1) as f64;
        let _ = writeln!(text, "  {name:<14} {mean:>9.4} on average");
    }
    for (i, (first, one)) in found.iter().enumerate() {
        for (second, other) in &found[i + 1..] {
            let (mean, largest) = differences(one, other);
            let _ = writeln!(
                text,
                "  {first} and {second}: differ by {mean:.4} on average, by {largest:.4} at most"
            );
        }
    }
    text.trim_end().to_owned()
}

/// Absolute differences: the mean and the largest.
fn differences(one: &[f64], other: &[f64]) -> (f64, f64) {
    let all = one.iter().zip(other).map(|(one, other)| (one - other).abs());
    let (sum, largest) = all.fold((0.0, 0.0_f64), |(sum, largest), x| (sum + x, largest.max(x)));
    (sum / one.len().max(1) as f64, largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_two_programs_are_compared() {
        let found = vec![("a", vec![-1.0, -2.0]), ("b", vec![-1.5, -2.0]), ("c", vec![-1.0, -4.0])];
        let want = "\
Log-probabilities of 2 tokens of a book, each given those before, in nats
  a                -1.5000 on average
  b                -1.7500 on average
  c                -2.5000 on average
  a and b: differ by 0.2500 on average, by 0.5000 at most
  a and c: differ by 1.0000 on average, by 2.0000 at most
  b and c: differ by 1.2500 on average, by 2.0000 at most";
        assert_eq!(render(found), want);
    }
}
