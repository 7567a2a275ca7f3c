//! What the report says in sentences, and what it suggests to type.

use forerun_runs::report::{Block, Command};
use forerun_runs::stats::Interval;

use super::findings::Findings;
use crate::horizon::spread::Known;
use crate::horizon::valley::reason_in_words;
use crate::horizon::{Arm, HELD_OUT};
use crate::plan::{counted, quantity};
use crate::report_parts::{self, Mean};

/// Parameters of the smallest model, and tokens of the shortest horizon, of the paper.
const PAPER_SIZE: (f64, f64) = (50e6, 25e9);

/// A learning rate as people write it: `0.00437`, `5e-4`.
pub(super) fn rate_in_words(rate: f64) -> String {
    if rate >= 1e-3 {
        return three_digits(rate).to_string();
    }
    format!("{rate:.2e}").replace(".00e", "e").replace("0e", "e")
}

/// Rounded to three significant digits.
pub(super) fn three_digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// `262.1 k`.
pub(super) fn tokens_in_words(n_tokens: f64) -> String {
    quantity(n_tokens).trim_end().to_owned()
}

/// `0.21 [0.12, 0.30]`.
pub(super) fn known(known: Known) -> String {
    match known.interval {
        Some(interval) => {
            format!("{:.2} [{:.2}, {:.2}]", known.value, interval.low, interval.high)
        }
        None => format!("{:.2}", known.value),
    }
}

fn rate_known(known: Known) -> String {
    match known.interval {
        Some(interval) => format!(
            "{} [{}, {}]",
            rate_in_words(known.value),
            rate_in_words(interval.low),
            rate_in_words(interval.high)
        ),
        None => rate_in_words(known.value),
    }
}

/// The unit in which a claim's effect is told.
pub(super) fn unit(series: &str) -> &'static str {
    match series {
        "optimum" | "prediction-error" => "octaves",
        "loss/predicted" | "loss/carried" | "loss/best" => "nats per token",
        _ => "",
    }
}

pub(super) fn summary(findings: &Findings<'_>) -> String {
    let fitted: Vec<f64> =
        findings.body.horizons.fitted.iter().map(|&part| findings.n_tokens(part)).collect();
    let ends = fitted.first().zip(fitted.last());
    let (low, high) = ends.map_or((0.0, 0.0), |ends| (*ends.0, *ends.1));
    let what = format!(
        "The best learning rate was found at {} from {} to {} tokens, and predicted for {}.",
        counted(fitted.len() as u64, "horizon"),
        tokens_in_words(low),
        tokens_in_words(high),
        tokens_in_words(findings.n_tokens(HELD_OUT))
    );
    match &findings.fitted {
        Some(spread) => format!("{what} Its exponent is {}.", known(spread.exponent())),
        None => format!("{what} The exponent is not identified."),
    }
}

pub(super) fn what_was_seen(findings: &Findings<'_>) -> Vec<String> {
    let mut seen = vec![exponent(findings)];
    seen.extend(prediction(findings));
    let regrets =
        [("predicted", findings.valleys.predicted), ("carried", findings.valleys.carried)];
    seen.extend(regrets.into_iter().filter_map(|(name, lr)| regret(findings, name, lr)));
    if let [_, others @ ..] = findings.body.arms.as_slice() {
        seen.extend(others.iter().map(|arm| arm_in_words(findings, arm)));
    }
    seen
}

fn exponent(findings: &Findings<'_>) -> String {
    let Some(spread) = &findings.fitted else {
        return "The exponent of the horizon is not identified: fewer than three of the fitted horizons show an optimum."
            .to_owned();
    };
    let found = spread.exponent();
    let text = format!(
        "Over the fitted horizons the best learning rate is proportional to D^-β with β = {}.",
        known(found)
    );
    match found.interval {
        Some(interval) if interval.low > 0.0 => format!("{text} It falls."),
        Some(interval) if interval.high < 0.0 => format!("{text} It rises."),
        Some(_) => {
            format!("{text} That is not told apart from no change: the exponent is not identified.")
        }
        None => format!("{text} There are too few seeds for an interval."),
    }
}

fn prediction(findings: &Findings<'_>) -> Option<String> {
    let tokens = tokens_in_words(findings.n_tokens(HELD_OUT));
    let predicted = findings.fitted.as_ref()?.rate_at(findings.n_tokens(HELD_OUT));
    let text = format!("For {tokens} tokens the law predicts {}", rate_known(predicted));
    let arm = findings.subject()?;
    Some(match findings.optimum(arm, HELD_OUT) {
        Some(optimum) => {
            let octaves = (predicted.value / optimum.value).log2();
            let way = if octaves < 0.0 { "too low" } else { "too high" };
            format!(
                "{text}; the best there is {}, so that the prediction is {:.2} octaves {way}.",
                rate_known(optimum),
                octaves.abs()
            )
        }
        None => {
            let reason = reason_in_words(&findings.valley(arm, HELD_OUT)).unwrap_or_default();
            format!("{text}; the best there is not identified: {reason}.")
        }
    })
}

fn regret(findings: &Findings<'_>, name: &str, lr: Option<f64>) -> Option<String> {
    let regret = findings.regret(lr)?;
    let mut text = format!(
        "At the {name} rate, {}, the held-out horizon's loss minus that of the best of the other rates is {}.",
        rate_in_words(lr?),
        nats(regret)
    );
    if let Some(share) = findings.tokens_lost(regret.value).filter(|share| *share > 0.005) {
        text.push_str(&format!(" {:.0} % more tokens would make up for it.", 100.0 * share));
    }
    Some(text)
}

fn nats(mean: Mean) -> String {
    match mean.interval {
        Some(Interval { low, high }) => {
            format!("{:.4} nats per token [{low:.4}, {high:.4}]", mean.value)
        }
        None => format!("{:.4} nats per token", mean.value),
    }
}

fn arm_in_words(findings: &Findings<'_>, arm: &Arm) -> String {
    let at = |part| {
        let tokens = tokens_in_words(findings.n_tokens(part));
        match findings.optimum(arm, part) {
            Some(known) => format!("{} at {tokens} tokens", rate_known(known)),
            None => format!("not identified at {tokens} tokens"),
        }
    };
    let optima: Vec<String> = findings.parts(arm).into_iter().map(at).collect();
    format!("{}: best learning rate {}.", arm.label, optima.join(", "))
}

/// What limits every recommendation.
pub(super) fn limits(findings: &Findings<'_>) -> Vec<String> {
    let size = findings.subject().and_then(|arm| findings.n_params(arm));
    let size = size.map_or("this model".to_owned(), |n| {
        format!("a model of {} parameters", quantity(n).trim_end())
    });
    let batch = findings.body.batch_tokens();
    let batch =
        batch.map_or("one batch size".to_owned(), |tokens| format!("a batch of {tokens} tokens"));
    let schedule = match findings.body.external {
        Some(_) => "the command's schedule",
        None => "warm-up and cosine",
    };
    vec![format!("seen on {size}, {batch}, {schedule}; another batch moves it")]
}

pub(super) fn caveats(findings: &Findings<'_>) -> Vec<String> {
    let mut caveats = report_parts::caveats(&findings.outcome.experiment);
    let size = findings.subject().and_then(|arm| findings.n_params(arm));
    if size.is_some_and(|size| size < PAPER_SIZE.0) || findings.n_tokens(HELD_OUT) < PAPER_SIZE.1 {
        caveats.push(
            "The paper's models have 50 million to 2.7 billion parameters and see 25 to 800 billion tokens; its smallest \
             ones have the largest exponents. What holds here need not hold there."
                .to_owned(),
        );
    }
    caveats.push(
        "The batch is the same at every horizon. Where it grows with the horizon, the best learning rate may rise instead."
            .to_owned(),
    );
    if let Some(epochs) = findings.epochs().filter(|epochs| *epochs > 1.0) {
        caveats.push(format!(
            "The longest horizon reads the training text {epochs:.1} times; shorter ones read less of it more than once. \
             Repetition is not what the paper studies."
        ));
    }
    caveats.push(
        "The best of the other rates at the held-out horizon is the lowest of several noisy means, so that its loss is a \
         little too low and the regrets a little too high."
            .to_owned(),
    );
    if findings.valleys.best().is_some_and(|best| best.at_edge) {
        caveats.push(
            "The lowest loss of the held-out horizon lies at the end of the learning rates that were tried there."
                .to_owned(),
        );
    }
    caveats
}

pub(super) fn next_steps(findings: &Findings<'_>) -> Vec<Block> {
    let longer = format!("--set horizons.held_out={}", 4 * findings.body.horizons.held_out);
    let mut steps = report_parts::next_steps(
        &findings.outcome.experiment,
        &[("Horizons four times as long", longer.as_str())],
    );
    if findings.body.external.is_some() {
        steps.remove(0); // the command has text of its own
    }
    let line = "cargo xtask fit --law lr-horizon --data RUN/results.parquet \
                --columns d=n_tokens,lr=lr,loss=validation_loss";
    steps.push(Block::Command(Command {
        label: "The law by other means, from this run's table".to_owned(),
        lines: vec![line.to_owned()],
    }));
    steps
}
