//! What the numbers say, in plain words. Every sentence is made from the run's own files.

use forerun_runs::stats;

use super::findings::Findings;
use crate::magneto::Arm;
use crate::magneto::grid::{End, Largest};
use crate::report_parts::{self, Mean, capitalised, list};

/// Width and layers of the smallest language models of the paper.
const PAPER_SIZE: (i64, i64) = (1024, 24);
/// Share of the updates that are warm-up there: 750 of 500,000 at 24 layers, of 250,000 at 48 and 72.
const PAPER_WARMUP: &str = "0.15 % at 24 layers, 0.3 % at 48 and 72";

/// A learning rate as people write it: `0.016`, `5e-4`.
pub(super) fn rate_in_words(rate: f64) -> String {
    if rate >= 1e-3 {
        return three_digits(rate).to_string();
    }
    format!("{rate:.1e}").replace(".0e", "e")
}

/// Rounded to three significant digits.
pub(super) fn three_digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// The unit in which a claim's effect is told.
pub(super) fn unit(series: &str) -> &'static str {
    match series {
        "largest-lr" => "octaves",
        "best-loss" | "fails-alone" => "nats per token",
        _ => "",
    }
}

/// `0.016, 0.016, 0.032`; `all 0.016`; `none`.
pub(super) fn largest_in_words(largest: &[Largest]) -> String {
    let word = |largest: &Largest| match *largest {
        Largest::None => "none".to_owned(),
        Largest::At(rate) => rate_in_words(rate),
        Largest::AtLeast(rate) => format!("≥ {}", rate_in_words(rate)),
        Largest::Unknown => "missing".to_owned(),
    };
    match largest {
        [] => String::new(),
        [first, rest @ ..] if rest.iter().all(|other| other == first) => word(first),
        _ => largest.iter().map(word).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn nats(mean: Mean) -> String {
    match mean.interval {
        Some(interval) => {
            format!("{:.3} nats per token [{:.3}, {:.3}]", mean.value, interval.low, interval.high)
        }
        None => format!("{:.3} nats per token", mean.value),
    }
}

pub(super) fn summary(findings: &Findings<'_>) -> String {
    let depth = findings.body.deepest();
    let labels: Vec<&str> = findings.arms().iter().map(|arm| arm.label.as_str()).collect();
    let rates = &findings.body.grid.learning_rates;
    let what = format!(
        "{} were trained with {} learning rates at {} layers, and the size of one update was measured against depth.",
        list(&labels),
        rates.len(),
        list(&findings.body.grid.depths.iter().map(i64::to_string).collect::<Vec<_>>())
    );
    match findings.winner(depth) {
        Some((arm, losses)) => format!(
            "{what} At {depth} layers the lowest loss is {}'s, {:.3} nats per token.",
            arm.label,
            stats::mean(&losses)
        ),
        None => what,
    }
}

pub(super) fn what_was_seen(findings: &Findings<'_>) -> Vec<String> {
    findings.arms().iter().map(|arm| arm_in_words(findings, arm)).collect()
}

fn arm_in_words(findings: &Findings<'_>, arm: &Arm) -> String {
    let depths = findings.body.grid.depths.iter();
    let parts: Vec<String> = depths.map(|&depth| depth_in_words(findings, arm, depth)).collect();
    let slopes = findings.slopes(arm, "sgd");
    let growth = if slopes.is_empty() {
        String::new()
    } else {
        format!(
            " One step of gradient descent moves it in proportion to depth to the power {:.2}.",
            stats::mean(&slopes)
        )
    };
    format!("{}: {}.{growth}", arm.label, parts.join("; "))
}

fn depth_in_words(findings: &Findings<'_>, arm: &Arm, depth: i64) -> String {
    let ends = findings.all_ends(arm, depth);
    let missing = ends.iter().filter(|end| matches!(end, End::Missing)).count();
    if missing > 0 {
        return format!(
            "at {depth} layers {missing} of its {} trainings are missing, so nothing is said of it",
            ends.len()
        );
    } else if ends.iter().all(|end| matches!(end, End::Diverged)) {
        return format!("at {depth} layers it diverges at every learning rate");
    }
    let best = findings.best(arm, depth);
    if best.is_empty() {
        return format!("at {depth} layers {}", failure_in_words(findings, &ends));
    }
    let loss = stats::mean(&best);
    let rate = rate_in_words(Mean::geometric(&findings.best_rates(arm, depth)).value);
    match findings.safe_rate(arm, depth) {
        Some(safe) => {
            let more = if findings.at_the_end(arm, depth) { "at least " } else { "" };
            format!(
                "at {depth} layers it trains up to {more}{}, best loss {loss:.3} at {rate}",
                rate_in_words(safe)
            )
        }
        None => format!(
            "at {depth} layers {}; its best loss is {loss:.3} at {rate}, and {}",
            not_at_every_seed(&findings.largest(arm, depth)),
            failure_in_words(findings, &ends)
        ),
    }
}

fn not_at_every_seed(largest: &[Largest]) -> String {
    let n_none = largest.iter().filter(|largest| **largest == Largest::None).count();
    if n_none == largest.len() {
        return "it trains at no learning rate".to_owned();
    }
    format!("it trains at no learning rate in {n_none} of {} seeds", largest.len())
}

/// Of all its trainings at a depth, how many ended how.
fn failure_in_words(findings: &Findings<'_>, ends: &[End]) -> String {
    let count = |of: fn(&End) -> bool| ends.iter().filter(|end| of(end)).count();
    let plateau = count(|end| matches!(end, End::Plateau(_)));
    let worse = count(|end| matches!(end, End::Worse(_)));
    let diverged = count(|end| matches!(end, End::Diverged));
    format!(
        "its {} trainings end: {plateau} on the plateau of a guess by token frequencies ({:.3}), {worse} above it, \
         {diverged} diverged, {} below it",
        ends.len(),
        findings.grid.unigram(),
        ends.len() - plateau - worse - diverged
    )
}

/// What the second half of the report measures.
pub(super) fn theory() -> &'static str {
    "The paper's argument for Sub-LN is about the size of a model's update, ‖F(θ+δ) − F(θ)‖ after one step of gradient \
     descent: with the initial weights of values, output projections and MLP multiplied by γ = √ln(2 · layers) it is \
     bounded whatever the depth, while under Pre-LN it grows with the logarithm of the depth. Magneto analyses these two; \
     that the update grows with depth under Post-LN is the argument of DeepNet (arXiv:2203.00555). Neither is about \
     AdamW. Its first step moves every coordinate by the learning rate, so we expect the number of layers to count there \
     under every placement; that is our reasoning, and no claim of the papers."
}

pub(super) fn size_of_models(findings: &Findings<'_>) -> String {
    let width = findings.arms().first().map_or(0, |arm| arm.model.d_model);
    let training = findings.body.training();
    format!(
        "seen on models of width {width} with at most {} layers, after {} updates of {} tokens; nothing larger was run",
        findings.body.deepest(),
        training.steps,
        training.batch_size as i64 * training.seq_len
    )
}

pub(super) fn same_for_all(findings: &Findings<'_>) -> String {
    let training = findings.body.training();
    let clip = match training.clip_norm {
        Some(norm) => format!("gradients clipped to a norm of {norm}"),
        None => "gradients not clipped".to_owned(),
    };
    format!(
        "every arm has the same {} updates of warm-up and {clip}; both move the border of what trains",
        training.warmup_steps
    )
}

pub(super) fn caveats(findings: &Findings<'_>) -> Vec<String> {
    let mut caveats = report_parts::caveats(&findings.outcome.experiment);
    let (width, layers) = PAPER_SIZE;
    let own = findings.arms().first().map_or(0, |arm| arm.model.d_model);
    if own < width || findings.body.deepest() < layers {
        caveats.push(format!(
            "The models have width {own} and up to {} layers and train for {} updates; the paper's have width {width} and \
             {layers} layers or more, and train for 500,000 updates (24 layers) or 250,000 (48 and 72, with dropout 0.1, \
             where ours have none). It shows one run of each, so nothing is known of its noise between seeds.",
            findings.body.deepest(),
            findings.body.training().steps
        ));
    }
    caveats.push(capitalised(&same_for_all(findings)) + ".");
    let training = findings.body.training();
    caveats.push(format!(
        "Warm-up takes {:.1} % of the updates; in the paper {PAPER_WARMUP}. A longer one lets larger learning rates train.",
        100.0 * training.warmup_steps as f64 / training.steps as f64
    ));
    caveats.push(format!(
        "“Trains” means: {} % of the way from a guess by token frequencies (a unigram model) to the best model of the same depth and seed. \
         A model that does not get there within {} updates may do so later.",
        findings.body.grid.trains_share * 100.0,
        findings.body.training().steps
    ));
    let step = widest_step(&findings.body.grid.learning_rates);
    caveats.push(format!(
        "Learning rates lie up to {step:.1} octaves apart: what differs by less is not seen."
    ));
    for arm in findings.arms() {
        for &depth in &findings.body.grid.depths {
            if findings.at_the_end(arm, depth) {
                caveats.push(format!(
                    "{} at {depth} layers still trains at the largest learning rate of the grid.",
                    arm.label
                ));
            }
        }
    }
    caveats
}

fn widest_step(rates: &[f64]) -> f64 {
    rates.windows(2).map(|pair| (pair[1] / pair[0]).log2()).fold(0.0, f64::max)
}

/// What to try after a run.
pub(super) const NEXT_STEPS: [(&str, &str); 3] = [
    ("Deeper", "--set grid.depths=[6,24,48]"),
    ("With gradients clipped", "--set training.clip_norm=1.0"),
    (
        "Pre-LN with GPT-2's initialisation, whose output projections shrink with depth",
        "--set arms.pre.model.init=\"{kind='normal', std=0.02}\"",
    ),
];
