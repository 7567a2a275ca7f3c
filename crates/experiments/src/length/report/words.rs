//! What the numbers say, in plain words. Every sentence is made from the run's own files.

use forerun_arch::Positions;

use super::{Arm, Findings};
use crate::config::TokenizerConfig;
use crate::length::tuning::tuned;
use crate::plan::counted;
use crate::report_parts::{self, capitalised, list};

/// Width and layers of the models in Sun et al. 2022.
const PAPER_SIZE: (i64, i64) = (1024, 24);
/// Their training length.
const PAPER_LENGTH: i64 = 1024;

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
    let arms = findings.arms().iter().map(|arm| arm_in_words(findings, arm));
    arms.chain(xpos_against_rope(findings)).chain(beyond_repair(findings)).collect()
}

/// Why blockwise causal attention, which bounds distances, can do little for positions that are added to the embedding.
fn beyond_repair(findings: &Findings<'_>) -> Option<String> {
    let absolute = |arm: &&Arm| {
        matches!(arm.model.positions, Positions::Learned { .. } | Positions::Sinusoidal)
    };
    let labels: Vec<String> =
        findings.arms().iter().filter(absolute).map(|arm| arm.label.to_lowercase()).collect();
    (!labels.is_empty()).then(|| {
        format!(
            "Of {} positions a mask can repair little: blockwise causal attention keeps distances within those of training, \
             but a token beyond position {} is still given a vector that no training has seen.",
            list(&labels),
            findings.seq_len()
        )
    })
}

/// What of xPos's lead over RoPE is there at the training length already, where the two differ in positions alone.
fn xpos_against_rope(findings: &Findings<'_>) -> Option<String> {
    let find =
        |is: fn(&Positions) -> bool| findings.arms().iter().find(|arm| is(&arm.model.positions));
    let xpos = find(|positions| matches!(positions, Positions::Xpos { .. }))?;
    let rope = find(|positions| matches!(positions, Positions::Rope { .. }))?;
    if xpos.model.norm != rope.model.norm || xpos.model.init != rope.model.init {
        return None;
    }
    let (seq_len, longest) = (findings.seq_len(), findings.longest());
    let lead = |mask, length| {
        Some(findings.loss(rope, mask, length)? - findings.loss(xpos, mask, length)?)
    };
    let (near, far) = (lead("causal", seq_len)?, lead("bca", longest)?);
    Some(format!(
        "{} has {near:.3} nats per token less than {} at the training length, and {far:.3} less when both read {longest} \
         tokens with blockwise causal attention: reading further adds {:+.3} to the lead.",
        xpos.label,
        rope.label,
        far - near
    ))
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

/// What of the paper's tables can be held against ours, and what cannot.
pub(super) fn not_comparable(findings: &Findings<'_>) -> Vec<String> {
    let experiment = &findings.outcome.experiment;
    let unit = match experiment.tokenizer {
        TokenizerConfig::Bytes => "per byte of",
        _ => "per token of",
    };
    vec![format!(
        "The paper trains 24 layers of width 1024 at {PAPER_LENGTH} tokens on a part of the Pile, half a million subwords a \
         batch, and gives perplexity per subword on arXiv articles, each read alone. Here the training length is {} tokens, \
         the perplexity is {unit} a held-out text, and windows follow each other through it, so that a window mostly \
         begins in the middle of something. Compare how numbers grow and in which order they stand, not how high they are. \
         The paper's one row with absolute positions stands beside both of ours. Its attention resolution of 1.08 cannot \
         come from its equation 3, which stays below 1: of Table 3 compare the order alone.",
        findings.seq_len()
    )]
}

pub(super) fn caveats(findings: &Findings<'_>) -> Vec<String> {
    let experiment = &findings.outcome.experiment;
    let mut caveats = report_parts::caveats(experiment);
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
    caveats.push(capitalised(&learning_rates(findings)) + ".");
    caveats.extend(at_the_edge(findings));
    if let Some(sweep) = &findings.body.sweep {
        let run = counted(sweep.n_seeds(experiment.seeds), "seed");
        caveats.push(format!(
            "Other constants of xPos were trained with {run} a point, at a learning rate that was tuned for the arm's own."
        ));
    }
    caveats
}

/// Arms whose best learning rate is the lowest or the highest that was tried.
fn at_the_edge(findings: &Findings<'_>) -> Option<String> {
    findings.body.tuning.as_ref()?;
    let named: Vec<String> = findings
        .arms()
        .iter()
        .filter_map(|arm| {
            let found = tuned(findings.outcome, &arm.name);
            let rate = found.chosen.filter(|_| found.at_edge)?;
            Some(format!("{} ({rate})", arm.label))
        })
        .collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    (!named.is_empty()).then(|| {
        format!(
            "The best learning rate lies at the end of what was tried for {}: a better one may lie beyond, and those arms \
             may be held back by it. Widen `tuning.learning_rates`.",
            list(&named)
        )
    })
}

/// How fair the comparison of arms is in the setting that matters most.
pub(super) fn learning_rates(findings: &Findings<'_>) -> String {
    if let Some(tuning) = &findings.body.tuning {
        let longest = findings.arms().iter().all(|arm| tuning.steps(arm) == arm.training.steps);
        let horizon = if longest {
            "as many updates as the models have"
        } else {
            "fewer updates than the models have"
        };
        return format!(
            "the learning rate of every arm is the best of {} that were tried on one seed, over {horizon}",
            tuning.learning_rates.len()
        );
    }
    let mut rates: Vec<f64> = findings.arms().iter().map(|arm| arm.training.optimiser.lr).collect();
    rates.dedup();
    match rates.as_slice() {
        [rate] => format!("every arm was trained at the learning rate {rate}; none was tuned"),
        _ => "the arms were trained at learning rates of their own, as configured; none was tuned here".to_owned(),
    }
}

/// What to try after a run.
pub(super) const NEXT_STEPS: [(&str, &str); 2] = [
    ("Longer training", "--set training.steps=2000"),
    ("A wider model", "--set model.d_model=128 --set model.d_ff=512"),
];
