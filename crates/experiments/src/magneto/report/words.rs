//! What the numbers say, in plain words. Every sentence is made from the run's own files.

use forerun_runs::report::{Block, Command};
use forerun_runs::stats;

use super::findings::{Findings, Mean};
use crate::config::{Experiment, Scale};
use crate::magneto::Arm;
use crate::magneto::grid::{End, Largest};
use crate::plan::counted;

/// Width and layers of the smallest language models of the paper.
const PAPER_SIZE: (i64, i64) = (1024, 24);

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
    let best = findings.best(arm, depth);
    if best.is_empty() {
        return format!("at {depth} layers it diverges at every learning rate");
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
            "at {depth} layers {}; its best loss is {loss:.3} at {rate}, {}",
            not_at_every_seed(&findings.largest(arm, depth)),
            failure_in_words(findings, arm, depth)
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
fn failure_in_words(findings: &Findings<'_>, arm: &Arm, depth: i64) -> String {
    let rates = 0..findings.body.grid.learning_rates.len();
    let ends: Vec<End> = rates.flat_map(|rate| findings.ends(arm, depth, rate)).collect();
    let count = |of: fn(&End) -> bool| ends.iter().filter(|end| of(end)).count();
    let plateau = count(|end| matches!(end, End::Plateau(_)));
    let worse = count(|end| matches!(end, End::Worse(_)));
    let diverged = count(|end| matches!(end, End::Diverged));
    format!(
        "and its {} trainings end: {plateau} on the plateau of a guess by letter frequencies ({:.3}), {worse} above it, \
         {diverged} diverged",
        ends.len(),
        findings.grid.unigram()
    )
}

/// What the second half of the report measures.
pub(super) fn theory() -> &'static str {
    "The paper's argument for Sub-LN is about the size of a model's update, ‖F(θ+δ) − F(θ)‖ after one step of gradient \
     descent: with the initial weights of values, output projections and MLP multiplied by γ = √ln(2 · layers) it is \
     bounded whatever the depth, while it grows with the logarithm of the depth under Pre-LN, and faster under Post-LN. Every coordinate that AdamW's first step moves, it moves by the learning rate, so there the number of layers \
     counts as well."
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
    let own = findings.arms().first().map_or(0, |arm| arm.model.d_model);
    if own < width || findings.body.deepest() < layers {
        caveats.push(format!(
            "The models have width {own} and up to {} layers; the paper's have width {width} and {layers} layers or more, \
             and train for 250,000 updates or more.",
            findings.body.deepest()
        ));
    }
    caveats.push(capitalised(&same_for_all(findings)) + ".");
    caveats.push(format!(
        "“Trains” means: {} % of the way from a guess by letter frequencies to the best model of the same depth and seed. \
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

pub(super) fn next_steps(experiment: &Experiment) -> Vec<Block> {
    let try_next = |label: &str, line: String| {
        Block::Command(Command { label: label.to_owned(), lines: vec![line] })
    };
    let plain = format!("cargo xtask run-experiment {}", experiment.name);
    let more = 2 * experiment.seeds.max(3);
    vec![
        try_next("On your own text", format!("{plain} --data my.txt")),
        try_next("Deeper", format!("{plain} --set grid.depths=[6,24,48]")),
        try_next("With gradients clipped", format!("{plain} --set training.clip_norm=1.0")),
        try_next(
            "Pre-LN with GPT-2's initialisation, whose output projections shrink with depth",
            format!("{plain} --set arms.pre.model.init=\"{{kind='normal', std=0.02}}\""),
        ),
        try_next(
            "More seeds, for narrower intervals (finished cells are reused)",
            format!("{plain} --seeds {more}"),
        ),
    ]
}

/// The command that runs this very configuration.
pub(super) fn command(experiment: &Experiment) -> String {
    let words = [format!("cargo xtask run-experiment {}", experiment.name)];
    words.iter().chain(&experiment.arguments).cloned().collect::<Vec<_>>().join(" ")
}

fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
