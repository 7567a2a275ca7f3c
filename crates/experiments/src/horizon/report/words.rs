//! What the report says in sentences, and what it suggests to type.

use forerun_runs::report::{Block, Command};
use forerun_runs::stats::Interval;
use forerun_scaling::audit::RULE_OF_THUMB;

use super::findings::{Findings, Missing};
use super::readings::{self, Reading};
use super::tables::expected;
use crate::horizon::spread::Known;
use crate::horizon::valley::reason_in_words;
use crate::horizon::verdicts::MOVED_FROM;
use crate::horizon::{Arm, HELD_OUT};
use crate::plan::{counted, quantity};
use crate::report_parts::{self, Mean};

/// The smallest and the largest exponent of the paper, by size.
const PAPER_EXPONENTS: (f64, f64) = (0.3155, 0.7029);

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
        "optimum" | "prediction-error" | "prediction-distance" | "carried-distance" => "octaves",
        series if series.starts_with(MOVED_FROM) => "octaves",
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
        Some(spread) => {
            format!("{what} The exponent of its fall is {}.", known(spread.exponent()))
        }
        None => format!("{what} The exponent of its fall is not identified."),
    }
}

pub(super) fn what_was_seen(findings: &Findings<'_>, readings: &[Reading]) -> Vec<String> {
    let mut seen = vec![exponent(findings)];
    seen.extend(findings.missing().iter().map(|missing| without(findings, missing)));
    if let Some((low, high)) = readings::range(readings) {
        seen.push(format!(
            "Where optima are read off other points, or less the slant of the valleys, β is {low:.2} to {high:.2}."
        ));
    }
    seen.extend(last_step(findings));
    seen.extend(prediction(findings));
    seen.extend(carried(findings));
    seen.extend(distances(findings));
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
        "Over the fitted horizons the best learning rate is proportional to D^-β with β = {}, the mean over single seeds.",
        known(found)
    );
    let text = match found.interval {
        Some(interval) if interval.low > 0.0 => format!("{text} It falls."),
        Some(interval) if interval.high < 0.0 => format!("{text} It rises."),
        Some(_) => {
            format!("{text} That is not told apart from no change: the exponent is not identified.")
        }
        None => format!("{text} There are too few seeds for an interval."),
    };
    match found.interval {
        Some(interval) if interval.high < PAPER_EXPONENTS.0 => {
            format!("{text} All of the paper's exponents, {}, are larger.", papers())
        }
        Some(interval) if interval.low > PAPER_EXPONENTS.1 => {
            format!("{text} All of the paper's exponents, {}, are smaller.", papers())
        }
        _ => format!("{text} The paper's are {}.", papers()),
    }
}

fn papers() -> String {
    let (low, high) = PAPER_EXPONENTS;
    format!("{low:.2} to {high:.2}")
}

/// Whether the fall is the same further on.
fn last_step(findings: &Findings<'_>) -> Option<String> {
    let found = findings.last_exponent()?;
    let known = known(Known { value: found.value, interval: found.interval });
    Some(format!("From the longest fitted horizon to the held-out one alone, β is {known}."))
}

/// What the law lacks without a horizon.
fn without(findings: &Findings<'_>, missing: &Missing) -> String {
    let tokens = tokens_in_words(findings.n_tokens(missing.part));
    let text = format!("{tokens} tokens have no part in the law: there {}.", missing.reason);
    match &missing.beyond {
        Some(beyond) => format!(
            "{text} With a best rate of {} there, {}, β would be {:.2}; further out, {}.",
            rate_in_words(beyond.rate),
            if beyond.is_end { "the end of what was tried" } else { "where it is lowest" },
            beyond.exponent,
            if beyond.grows { "larger" } else { "smaller" }
        ),
        None => text,
    }
}

fn prediction(findings: &Findings<'_>) -> Option<String> {
    let tokens = tokens_in_words(findings.n_tokens(HELD_OUT));
    let predicted = findings.fitted.as_ref()?.rate_at(findings.n_tokens(HELD_OUT));
    let text = format!("For {tokens} tokens the law predicts {}", rate_known(predicted));
    let arm = findings.subject()?;
    Some(match findings.optimum(arm, HELD_OUT) {
        Some(optimum) => format!(
            "{text}; the best there is {}, so that the prediction is {}.",
            rate_known(optimum),
            off_by(predicted.value, optimum.value)
        ),
        None => {
            let reason = reason_in_words(&findings.valley(arm, HELD_OUT)).unwrap_or_default();
            format!("{text}; the best there is not identified: {reason}.")
        }
    })
}

/// `0.21 octaves too high, within a factor of two`.
fn off_by(rate: f64, best: f64) -> String {
    let octaves = (rate / best).log2();
    let way = if octaves < 0.0 { "too low" } else { "too high" };
    let within = if octaves.abs() <= 1.0 { "within" } else { "not within" };
    format!("{:.2} octaves {way}, {within} a factor of two", octaves.abs())
}

/// The rate of a short horizon, carried over, against the best.
fn carried(findings: &Findings<'_>) -> Option<String> {
    let (carried, thumb) = (findings.valleys.carried?, findings.thumb()?);
    let optimum = findings.optimum(findings.subject()?, HELD_OUT)?;
    let from = tokens_in_words(findings.n_tokens(findings.body.horizons.carried_from));
    Some(format!(
        "The best rate of {from} tokens, carried over unchanged, is {}: {}. The paper's rule of thumb, exponent \
         {RULE_OF_THUMB}, makes {} of it: {}.",
        rate_in_words(carried),
        off_by(carried, optimum.value),
        rate_in_words(thumb),
        off_by(thumb, optimum.value)
    ))
}

/// The same for single seeds, which is what the claim is judged by.
fn distances(findings: &Findings<'_>) -> Option<String> {
    let [law, carried] = findings.distances()?;
    let [law, carried] = [law, carried].map(|octaves| Mean::of(&octaves));
    (law.value.is_finite() && carried.value.is_finite()).then(|| {
        format!(
            "Single seeds: their own laws err by {}, their own carried rates by {}.",
            octaves(law),
            octaves(carried)
        )
    })
}

fn octaves(mean: Mean) -> String {
    match mean.interval {
        Some(Interval { low, high }) => format!("{:.2} octaves [{low:.2}, {high:.2}]", mean.value),
        None => format!("{:.2} octaves", mean.value),
    }
}

fn regret(findings: &Findings<'_>, name: &str, lr: Option<f64>) -> Option<String> {
    let regret = findings.regret(lr)?;
    let mut text = format!(
        "At the {name} rate, {}, the held-out horizon's loss minus that of the best of the other rates is {}.",
        rate_in_words(lr?),
        nats(regret)
    );
    if let Some(nats) = expected(findings, lr?) {
        text.push_str(&format!(" The parabola of that horizon puts it {nats:.4} above the lowest"));
        let share = findings.tokens_lost(nats).filter(|share| *share > 0.005);
        text.push_str(&share.map_or_else(
            || ".".to_owned(),
            |share| format!(", for which {:.0} % more tokens would make up.", 100.0 * share),
        ));
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
    let mut caveats = report_parts::caveats(findings.experiment);
    let size = findings.subject().and_then(|arm| findings.n_params(arm));
    if size.is_some_and(|size| size < PAPER_SIZE.0) || findings.n_tokens(HELD_OUT) < PAPER_SIZE.1 {
        caveats.push(
            "The paper's models have 50 million to 2.7 billion parameters and see 25 to 800 billion tokens; its smallest \
             ones have the largest exponents. What holds here need not hold there."
                .to_owned(),
        );
    }
    caveats.push(batch(findings));
    if let Some(epochs) = findings.epochs().filter(|epochs| *epochs > 1.0) {
        caveats.push(format!(
            "The longest horizon reads the training text {epochs:.1} times, which the shorter ones do not: what is held out \
             differs from what is fitted in more than its length."
        ));
    }
    caveats.push(
        "The best of the other rates at the held-out horizon is chosen for each seed by the others. Where several rates are \
         nearly as good, that is now and then not the best of them, and the regrets are a little too low."
            .to_owned(),
    );
    caveats.extend(read_anew(findings));
    if findings.valleys.best().is_some_and(|best| best.at_edge) {
        caveats.push(
            "The lowest loss of the held-out horizon lies at the end of the learning rates that were tried there."
                .to_owned(),
        );
    }
    caveats
}

/// The sign of the exponent belongs to the batch. Step Law: Li et al. 2025, arXiv:2503.04715; its 1,911 dense runs, fitted
/// at one batch size at a time.
fn batch(findings: &Findings<'_>) -> String {
    let ours = findings.body.batch_tokens().map_or("Ours".to_owned(), |tokens| {
        format!("Ours, {} tokens at every horizon,", quantity(tokens as f64).trim_end())
    });
    format!(
        "Whether the best rate falls or rises with the horizon hangs on the batch: by our fit of Step Law's published runs it \
         falls where the batch is kept at some 0.1 million tokens, and rises where it is kept at 0.7 million or more. {ours} \
         stands for small batches alone."
    )
}

/// Rates are those that were trained. A program that reads the same sweep in another way would have trained others.
fn read_anew(findings: &Findings<'_>) -> Option<String> {
    let trained = findings.valleys.predicted?;
    let anew = findings.valleys.prediction(&findings.valleys.seeds)?;
    ((anew / trained).ln().abs() > 5e-3).then(|| {
        format!(
            "The predicted rate was trained at {}. Read anew, the same sweep predicts {}: the program has changed since.",
            rate_in_words(trained),
            rate_in_words(anew)
        )
    })
}

pub(super) fn next_steps(findings: &Findings<'_>) -> Vec<Block> {
    let longer = format!("--set horizons.held_out={}", 4 * findings.body.horizons.held_out);
    let mut steps = report_parts::next_steps(
        findings.experiment,
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
