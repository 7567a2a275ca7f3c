//! The report of a length experiment: what was seen in plain words, verdicts, figures, tables, samples.

mod extras;
mod figures;
mod paper;
mod tables;
mod words;

use anyhow::Result;
use forerun_runs::recommendation::Recommendation;
use forerun_runs::report::{Block, KeyNumber, Report, Sample};
use forerun_runs::stats::Interval;
use serde_json::json;

use super::correlation::ALL_ARMS;
use super::{Arm, LengthConfig};
use crate::config::Claim;
use crate::outcome::Outcome;
use crate::plan::quantity;
use crate::report_parts::{self, Mean, provenance};

/// The two ways in which every model is read: series name and what people call it.
const MASKS: [(&str, &str); 2] = [("causal", "causal"), ("bca", "blockwise causal")];

/// Everything that the report is made of, with the questions that its parts ask.
struct Findings<'a> {
    outcome: &'a Outcome,
    body: &'a LengthConfig,
}

impl Findings<'_> {
    fn arms(&self) -> &[Arm] {
        &self.body.arms
    }

    fn seq_len(&self) -> i64 {
        self.body.training_length()
    }

    fn longest(&self) -> i64 {
        self.seq_len() * self.body.evaluation.ratios.last().copied().unwrap_or(1)
    }

    /// Lengths read, in tokens, ascending.
    fn lengths(&self) -> Vec<i64> {
        self.body.evaluation.ratios.iter().map(|ratio| ratio * self.seq_len()).collect()
    }

    /// Lengths at which attention resolution was measured.
    fn resolution_lengths(&self) -> Vec<i64> {
        self.body.evaluation.resolution_ratios.iter().map(|ratio| ratio * self.seq_len()).collect()
    }

    /// The values of a series at a length, those of the first `n_seeds` seeds in their order; NaN where there is none.
    fn losses(&self, arm: &str, series: &str, length: i64, n_seeds: u64) -> Vec<f64> {
        let of_seed = |seed| {
            let curve = self.outcome.of(arm, series).find(|curve| curve.seed == seed)?;
            curve.points.iter().find(|point| point.0 == length as f64).map(|point| point.1)
        };
        (0..n_seeds).map(|seed| of_seed(seed).unwrap_or(f64::NAN)).collect()
    }

    /// Each seed's loss at a length minus its own causal loss at the training length; NaN where one is missing.
    fn added(&self, arm: &str, mask: &str, length: i64, n_seeds: u64) -> Vec<f64> {
        let near = self.losses(arm, "nll/causal", self.seq_len(), n_seeds);
        let far = self.losses(arm, &format!("nll/{mask}"), length, n_seeds);
        far.iter().zip(&near).map(|(far, near)| far - near).collect()
    }

    /// Tokens a second of the workers that trained an arm, a model or a stack each.
    fn speeds(&self, arm: &Arm) -> Vec<f64> {
        let stacks = self.outcome.training(&arm.name, "stack_tokens_per_sec");
        if stacks.is_empty() { self.outcome.training(&arm.name, "tokens_per_sec") } else { stacks }
    }

    /// Mean of a series at every abscissa.
    fn means(&self, arm: &str, series: &str) -> Vec<(f64, Mean)> {
        self.outcome
            .by_x(arm, series)
            .into_iter()
            .map(|(x, values)| (x, Mean::of(&values)))
            .collect()
    }

    fn at(&self, arm: &str, series: &str, x: i64) -> Option<Mean> {
        self.means(arm, series).into_iter().find(|point| point.0 == x as f64).map(|point| point.1)
    }

    /// Loss in nats per token of an arm read with a mask at a length.
    fn loss(&self, arm: &Arm, mask: &str, length: i64) -> Option<f64> {
        self.at(&arm.name, &format!("nll/{mask}"), length)
            .map(|mean| mean.value)
            .filter(|loss| loss.is_finite())
    }

    /// The losses at the longest length, one a seed.
    fn last_losses(&self, arm: &Arm, mask: &str) -> Vec<f64> {
        let n_seeds = self.outcome.experiment.seeds;
        self.losses(&arm.name, &format!("nll/{mask}"), self.longest(), n_seeds)
    }

    /// The second best arm and mask, and by how much its loss is higher, paired by seed.
    fn runner_up(&self, best: &Arm, best_mask: &str) -> Option<(String, Mean)> {
        let winner = self.last_losses(best, best_mask);
        let pairs = self.arms().iter().flat_map(|arm| MASKS.map(|mask| (arm, mask)));
        pairs
            .filter(|(arm, mask)| (arm.name.as_str(), mask.0) != (best.name.as_str(), best_mask))
            .filter_map(|(arm, mask)| {
                let losses = self.last_losses(arm, mask.0);
                let differences: Vec<f64> =
                    losses.iter().zip(&winner).map(|(other, best)| other - best).collect();
                let sound = differences.iter().all(|value| value.is_finite());
                sound.then(|| (format!("{}, {}", arm.label, mask.1), Mean::of(&differences)))
            })
            .min_by(|a, b| a.1.value.total_cmp(&b.1.value))
    }

    /// The arm and mask with the lowest loss at the longest length.
    fn best(&self) -> Option<(&Arm, (&'static str, &'static str), f64)> {
        let pairs = self.arms().iter().flat_map(|arm| MASKS.map(|mask| (arm, mask)));
        pairs
            .filter_map(|(arm, mask)| Some((arm, mask, self.loss(arm, mask.0, self.longest())?)))
            .min_by(|a, b| a.2.total_cmp(&b.2))
    }
}

/// What to set, if the run found out: nothing at the smoke scale, nor from fewer seeds than the claims ask for.
pub(crate) fn recommendation(outcome: &Outcome, body: &LengthConfig) -> Vec<Recommendation> {
    let findings = Findings { outcome, body };
    let experiment = &outcome.experiment;
    let Some((arm, (mask, mask_label), loss)) = findings.best() else { return Vec::new() };
    if !report_parts::can_recommend(experiment) {
        return Vec::new();
    }
    let (length, seq_len) = (findings.longest(), findings.seq_len());
    let (width, depth) = (arm.model.d_model, arm.model.n_layers);
    let mut basis = format!(
        "lowest loss of all arms and masks when reading {length} tokens after training at {seq_len}: {loss:.3} nats per \
         token, mean of {} seeds",
        experiment.seeds
    );
    let mut caveats = vec![
        format!("seen on models of width {width} with {depth} layers; nothing larger was run"),
        words::learning_rates(&findings),
    ];
    if let Some((next, difference)) = findings.runner_up(arm, mask) {
        let Interval { low, high } =
            difference.interval.unwrap_or(Interval { low: f64::NAN, high: f64::NAN });
        basis.push_str(&format!(
            "; {:.3} nats [{low:.3}, {high:.3}] below the next best, {next}",
            difference.value
        ));
        if low.is_nan() || low <= 0.0 {
            caveats.push(format!("these seeds do not tell it apart from {next}"));
        }
    }
    vec![Recommendation {
        setting: format!("model and attention beyond {seq_len} tokens"),
        value: json!(format!("{}, {mask_label}", arm.label)),
        unit: None,
        interval: None, // a name has none; that of the difference, in nats per token, stands in the basis
        basis,
        caveats,
    }]
}

/// The report of a run directory.
pub(crate) fn report(outcome: &Outcome, body: &LengthConfig) -> Result<Report> {
    let findings = Findings { outcome, body };
    let experiment = &outcome.experiment;
    let heading = |text: &str| Block::Heading(text.to_owned());
    let mut blocks = vec![Block::KeyNumbers(key_numbers(&findings)), heading("What was seen")];
    blocks.push(Block::List(words::what_was_seen(&findings)));
    blocks.push(heading("Claims"));
    blocks.push(Block::Verdicts(report_parts::claims(outcome, unit)));
    let recommendations = recommendation(outcome, body);
    if !recommendations.is_empty() {
        blocks.push(heading("What to set"));
        blocks.push(Block::Recommendations(recommendations));
    }
    blocks.push(heading("Beyond the training length"));
    blocks.push(Block::Figure(figures::perplexity(&findings)));
    blocks.push(Block::Table(tables::perplexity(&findings)));
    blocks.push(Block::Table(tables::added_loss(&findings)));
    blocks.push(Block::Figure(figures::by_position(&findings)));
    if !body.evaluation.resolution_ratios.is_empty() {
        blocks.push(heading("Attention resolution"));
        blocks.push(Block::Figure(figures::resolution(&findings)));
        blocks.push(Block::Table(tables::resolution(&findings)));
        blocks.extend(extras::correlation(&findings));
    }
    blocks.push(heading("Beside the paper"));
    blocks.extend(paper::tables(&findings).into_iter().map(Block::Table));
    blocks.extend(words::not_comparable(&findings).into_iter().map(Block::Note));
    if let Some(sweep) = &body.sweep {
        blocks.push(heading("Other constants of xPos"));
        blocks.extend(extras::sweep(&findings, sweep));
    }
    blocks.push(heading("Training"));
    if let Some(tuning) = &body.tuning {
        blocks.extend(extras::tuning(&findings, tuning));
    }
    blocks.push(Block::Figure(figures::training(&findings)));
    blocks.push(Block::Table(tables::training(&findings)));
    blocks.push(heading("What the models write"));
    blocks.extend(samples(&findings));
    blocks.push(heading("What this does not show"));
    blocks.extend(words::caveats(&findings).into_iter().map(Block::Caveat));
    blocks.push(heading("What to try next"));
    blocks.extend(report_parts::next_steps(experiment, &words::NEXT_STEPS));
    blocks.push(heading("How it was made"));
    blocks.extend(provenance(outcome));
    Ok(Report { title: experiment.title.clone(), summary: words::summary(&findings), blocks })
}

/// A correlation has no unit.
fn unit(claim: &Claim) -> &'static str {
    if claim.a.arm == ALL_ARMS { "" } else { "nats per token" }
}

fn key_numbers(findings: &Findings<'_>) -> Vec<KeyNumber> {
    let mut numbers = Vec::new();
    let mut add = |value: String, unit: &str, label: String| {
        numbers.push(KeyNumber { value, unit: unit.to_owned(), label });
    };
    if let Some((arm, (_, mask), loss)) = findings.best() {
        let label =
            format!("best perplexity at {} tokens: {}, {mask}", findings.longest(), arm.label);
        add(format!("{:.2}", loss.exp()), "per token", label);
    }
    for arm in findings.arms() {
        let near = findings.loss(arm, "causal", findings.seq_len());
        let far = findings.loss(arm, "causal", findings.longest());
        if let (Some(near), Some(far)) = (near, far) {
            let ratio = (far - near).exp();
            add(
                format!("{ratio:.2}"),
                "×",
                format!("{}: perplexity grows by, causal attention", arm.label),
            );
        }
    }
    let speeds: Vec<f64> = findings.arms().iter().flat_map(|arm| findings.speeds(arm)).collect();
    if !speeds.is_empty() {
        let mean = speeds.iter().sum::<f64>() / speeds.len() as f64;
        add(
            quantity(mean).trim_end().to_owned(),
            "tokens/s",
            "training speed of one worker".to_owned(),
        );
    }
    numbers
}

fn samples(findings: &Findings<'_>) -> Vec<Block> {
    let mut blocks = Vec::new();
    for arm in findings.arms() {
        for text in
            findings.outcome.texts.iter().filter(|text| text.arm == arm.name && text.seed == 0)
        {
            blocks.push(Block::Sample(Sample {
                title: format!("{}, seed 0, {}", arm.label, text.sample.settings),
                prompt: text.sample.prompt.clone(),
                text: text.sample.text.clone(),
            }));
        }
    }
    blocks
}
