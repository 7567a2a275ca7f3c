//! What the numbers say, in plain words. Every sentence is made from the run's own files.

use forerun_runs::report::{Block, Command};

use super::{Arm, Findings};
use crate::config::{Experiment, Scale};
use crate::length::tuning::tuned;
use crate::plan::counted;
use crate::report_parts::list;

/// Width and layers of the models in Sun et al. 2022.
const PAPER_SIZE: (i64, i64) = (1024, 24);

/// A loss that moves by less than this, in nats per token, counts as unchanged in words (verdicts have rules of
/// their own).
const UNCHANGED: f64 = 0.01;

pub(super) fn summary(findings: &Findings<'_>) -> String {
    let (seq_len, longest) = (findings.seq_len(), findings.longest());
    let models: Vec<&str> = findings.arms().iter().map(|arm| arm.label.as_str()).collect();
    let what = format!(
        "{} were trained to read {seq_len} tokens, then read {longest} at a time.",
        list(&models)
    );
    match findings.best() {
        Some((arm, (_, mask), loss)) => format!(
            "{what} The lowest perplexity at that length is {:.2}: {} with {mask} attention.",
            loss.exp(),
            arm.label
        ),
        None => format!("{what} No model finished its training."),
    }
}

pub(super) fn what_was_seen(findings: &Findings<'_>) -> Vec<String> {
    findings.arms().iter().map(|arm| arm_in_words(findings, arm)).collect()
}

fn arm_in_words(findings: &Findings<'_>, arm: &Arm) -> String {
    let (seq_len, longest) = (findings.seq_len(), findings.longest());
    let Some(near) = findings.loss(arm, "causal", seq_len) else {
        return format!("{}: no seed finished its training with a finite loss.", arm.label);
    };
    let mut words = format!(
        "{}: perplexity {:.2} at the training length of {seq_len} tokens. ",
        arm.label,
        near.exp()
    );
    match findings.loss(arm, "causal", longest) {
        Some(far) => words.push_str(&format!(
            "Reading {longest} tokens with causal attention, {}. ",
            change(near, far)
        )),
        None => words.push_str(&format!(
            "Reading {longest} tokens with causal attention gives no finite loss. "
        )),
    }
    if let Some(blockwise) = findings.loss(arm, "bca", longest) {
        words.push_str(&format!("With blockwise causal attention, {}.", change(near, blockwise)));
    }
    words
}

/// `it rises to 23.70 (3.4 times)`.
fn change(near: f64, far: f64) -> String {
    let (perplexity, ratio) = (far.exp(), (far - near).exp());
    if (far - near).abs() < UNCHANGED {
        format!("it stays at {perplexity:.2}")
    } else if far > near {
        format!("it rises to {perplexity:.2} ({ratio:.2} times)")
    } else {
        format!("it falls to {perplexity:.2} ({ratio:.2} times)")
    }
}

pub(super) fn caveats(findings: &Findings<'_>) -> Vec<String> {
    let experiment = &findings.outcome.experiment;
    let mut caveats = Vec::new();
    if experiment.scale == Scale::Smoke {
        caveats.push(
            "This is the smoke scale: it shows that everything runs, and nothing about the claims."
                .to_owned(),
        );
    }
    let needed =
        experiment.claims.iter().map(|claim| claim.rule.min_seeds as u64).max().unwrap_or(0);
    if experiment.seeds < needed {
        let run = counted(experiment.seeds, "seed");
        caveats.push(format!("{run} of every arm; the claims ask for {needed}."));
    }
    let (width, layers) = PAPER_SIZE;
    if let Some(arm) = findings.arms().iter().max_by_key(|arm| arm.model.d_model)
        && (arm.model.d_model < width || arm.model.n_layers < layers)
    {
        caveats.push(format!(
            "The models have width {} and {} layers; the paper's have width {width} and {layers} layers.",
            arm.model.d_model, arm.model.n_layers
        ));
    }
    let first = findings.arms().first();
    if findings
        .arms()
        .iter()
        .any(|arm| first.is_some_and(|first| first.model.norm != arm.model.norm))
    {
        caveats.push(
            "The arms differ in norm and initialisation as well as in positions, so a difference at the training length \
             is not one of positions alone; what happens beyond it is compared within each arm."
                .to_owned(),
        );
    }
    caveats.push(learning_rates(findings));
    caveats
}

/// How fair the comparison of arms is in the setting that matters most.
pub(super) fn learning_rates(findings: &Findings<'_>) -> String {
    let mut rates: Vec<f64> = findings.arms().iter().map(|arm| arm.training.optimiser.lr).collect();
    rates.dedup();
    match rates.as_slice() {
        [rate] => format!("every arm was trained at the learning rate {rate}; none was tuned"),
        _ => "the arms were trained at learning rates of their own, as configured; none was tuned here".to_owned(),
    }
}

pub(super) fn next_steps(experiment: &Experiment) -> Vec<Block> {
    let try_next = |label: &str, line: String| {
        Block::Command(Command { label: label.to_owned(), lines: vec![line] })
    };
    let plain = format!("cargo xtask run-experiment {}", experiment.name);
    let more = 2 * experiment.seeds.max(3);
    vec![
        try_next("On your own text", format!("{plain} --data my.txt")),
        try_next("Longer training", format!("{plain} --set training.steps=2000")),
        try_next("A wider model", format!("{plain} --set model.d_model=128 --set model.d_ff=512")),
        try_next(
            "More seeds, for narrower intervals (finished cells are reused)",
            format!("{plain} --seeds {more}"),
        ),
    ]
}
