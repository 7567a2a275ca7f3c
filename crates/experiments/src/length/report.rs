//! The report of a length experiment: what was seen in plain words, verdicts, figures, tables, samples.

mod figures;
mod words;

use anyhow::Result;
use forerun_runs::recommendation::Recommendation;
use forerun_runs::report::{Block, Claim, Command, KeyNumber, KeyValues, Report, Sample};
use forerun_runs::table::{Cell, Column, Table};
use serde_json::json;

use super::{Arm, LengthConfig};
use crate::config::Scale;
use crate::outcome::Outcome;
use crate::plan::quantity;

/// The two ways in which every model is read: series name and what people call it.
const MASKS: [(&str, &str); 2] = [("causal", "causal"), ("bca", "blockwise causal")];

/// Everything that the report is made of, with the questions that its parts ask.
struct Findings<'a> {
    outcome: &'a Outcome,
    body: &'a LengthConfig,
}

/// A mean over seeds, with Student's interval where there are seeds enough.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mean {
    value: f64,
    low: Option<f64>,
    high: Option<f64>,
}

impl Mean {
    fn of(values: &[f64]) -> Self {
        let value = values.iter().sum::<f64>() / values.len() as f64;
        let interval = forerun_runs::stats::student_interval(values, 0.95).ok();
        Self {
            value,
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
        }
    }

    /// From nats per token to perplexity.
    fn exp(self) -> Self {
        Self { value: self.value.exp(), low: self.low.map(f64::exp), high: self.high.map(f64::exp) }
    }

    fn cell(self, digits: usize) -> Cell {
        match (self.low, self.high) {
            (Some(low), Some(high)) => Cell::range(self.value, low, high),
            _ => Cell::number(self.value, digits),
        }
    }
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
        let columns = self.outcome.by_x(&arm.name, &format!("nll/{mask}"));
        columns
            .into_iter()
            .find(|column| column.0 == self.longest() as f64)
            .map_or_else(Vec::new, |column| column.1)
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
                let sound = losses.len() == winner.len()
                    && differences.iter().all(|value| value.is_finite());
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
    let needed =
        experiment.claims.iter().map(|claim| claim.rule.min_seeds as u64).max().unwrap_or(2);
    let Some((arm, (mask, mask_label), loss)) = findings.best() else { return Vec::new() };
    if experiment.scale == Scale::Smoke || experiment.seeds < needed {
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
        let (low, high) = (difference.low.unwrap_or(f64::NAN), difference.high.unwrap_or(f64::NAN));
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
        interval: None, // the value is not a number; the interval of the difference stands in the basis
        basis,
        caveats,
    }]
}

/// The report of a run directory.
pub(crate) fn report(outcome: &Outcome, body: &LengthConfig) -> Result<Report> {
    let findings = Findings { outcome, body };
    let experiment = &outcome.experiment;
    let mut blocks =
        vec![Block::KeyNumbers(key_numbers(&findings)), Block::Heading("What was seen".to_owned())];
    blocks.push(Block::List(words::what_was_seen(&findings)));
    blocks.push(Block::Heading("Claims".to_owned()));
    blocks.push(Block::Verdicts(claims(outcome)));
    let recommendations = recommendation(outcome, body);
    if !recommendations.is_empty() {
        blocks.push(Block::Heading("What to set".to_owned()));
        blocks.push(Block::Recommendations(recommendations));
    }
    blocks.push(Block::Heading("Beyond the training length".to_owned()));
    blocks.push(Block::Figure(figures::perplexity(&findings)));
    blocks.push(Block::Table(perplexity_table(&findings)));
    blocks.push(Block::Figure(figures::by_position(&findings)));
    if !body.evaluation.resolution_ratios.is_empty() {
        blocks.push(Block::Table(resolution_table(&findings)));
    }
    blocks.push(Block::Table(paper_table()));
    blocks.push(Block::Heading("Training".to_owned()));
    blocks.push(Block::Figure(figures::training(&findings)));
    blocks.push(Block::Table(training_table(&findings)));
    blocks.push(Block::Heading("What the models write".to_owned()));
    blocks.extend(samples(&findings));
    blocks.push(Block::Heading("What this does not show".to_owned()));
    blocks.extend(words::caveats(&findings).into_iter().map(Block::Caveat));
    blocks.push(Block::Heading("What to try next".to_owned()));
    blocks.extend(words::next_steps(experiment));
    blocks.push(Block::Heading("How it was made".to_owned()));
    blocks.extend(provenance(outcome));
    Ok(Report { title: experiment.title.clone(), summary: words::summary(&findings), blocks })
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
    let speeds: Vec<f64> = findings
        .arms()
        .iter()
        .flat_map(|arm| findings.outcome.training(&arm.name, "tokens_per_sec"))
        .collect();
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

fn claims(outcome: &Outcome) -> Vec<Claim> {
    let rules = outcome.experiment.claims.iter();
    rules
        .filter_map(|claim| {
            let verdict = outcome.verdicts.iter().find(|verdict| verdict.name == claim.name)?;
            Some(Claim {
                text: claim.statement.clone(),
                unit: "nats per token".to_owned(),
                rule: claim.rule.clone(),
                judgement: verdict.judgement.clone(),
            })
        })
        .collect()
}

/// The paper's Table 5, with the masks as columns of rows.
fn perplexity_table(findings: &Findings<'_>) -> Table {
    let lengths: Vec<i64> =
        findings.body.evaluation.ratios.iter().map(|ratio| ratio * findings.seq_len()).collect();
    let heading = |length: &i64| Column::number(format!("{length}"), "tokens");
    let columns = ["arm", "attention"]
        .map(Column::text)
        .into_iter()
        .chain(lengths.iter().map(heading))
        .collect();
    let mut rows = Vec::new();
    for arm in findings.arms() {
        for (mask, label) in MASKS {
            let means = findings.means(&arm.name, &format!("nll/{mask}"));
            let mut row = vec![Cell::from(arm.label.as_str()), Cell::from(label)];
            row.extend(means.iter().map(|(_, mean)| mean.exp().cell(4)));
            rows.push(row);
        }
    }
    let caption = format!(
        "Perplexity per token by length read, with 95 % intervals over seeds (trained at {} tokens)",
        findings.seq_len()
    );
    Table { caption, columns, rows }
}

fn resolution_table(findings: &Findings<'_>) -> Table {
    let evaluation = &findings.body.evaluation;
    let lengths = evaluation.resolution_ratios.iter().map(|ratio| ratio * findings.seq_len());
    let columns = ["arm", "attention"].map(Column::text).into_iter();
    let columns = columns
        .chain(lengths.map(|length| Column::number(format!("{length}"), "tokens")))
        .collect();
    let mut rows = Vec::new();
    for arm in findings.arms() {
        for (mask, label) in MASKS {
            let means = findings.means(&arm.name, &format!("resolution/{mask}"));
            let mut row = vec![Cell::from(arm.label.as_str()), Cell::from(label)];
            row.extend(means.iter().map(|(_, mean)| mean.cell(3)));
            rows.push(row);
        }
    }
    Table {
        caption: "Attention resolution (paper, eq. 11; higher tells distances apart better)"
            .to_owned(),
        columns,
        rows,
    }
}

/// Table 5 of the paper: 24 layers, width 1024, trained at 1,024 tokens; perplexity on arXiv.
fn paper_table() -> Table {
    const PAPER: [(&str, &str, f64, f64); 4] = [
        ("RoPE", "causal", 73.6, 294.45),
        ("RoPE", "blockwise causal", 25.57, 25.65),
        ("xPos", "causal", 22.56, 28.43),
        ("xPos", "blockwise causal", 21.6, 20.73),
    ];
    let columns = vec![
        Column::text("positions"),
        Column::text("attention"),
        Column::number("2048", "tokens, 2x"),
        Column::number("4096", "tokens, 4x"),
    ];
    let rows = PAPER
        .iter()
        .map(|&(positions, mask, twice, four)| {
            vec![Cell::from(positions), Cell::from(mask), Cell::setting(twice), Cell::setting(four)]
        })
        .collect();
    let caption =
        "For comparison, the paper's Table 5: 24 layers, width 1024, trained at 1,024 tokens"
            .to_owned();
    Table { caption, columns, rows }
}

fn training_table(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::text("arm"),
        Column::number("parameters", ""),
        Column::number("tokens", ""),
        Column::number("learning rate", ""),
        Column::number("training loss", "nats/token"),
        Column::number("validation loss", "nats/token"),
        Column::number("speed", "tokens/s"),
        Column::number("peak memory", "MB"),
    ];
    let row = |arm: &Arm| {
        let values = |column: &str| findings.outcome.training(&arm.name, column);
        let count = |column: &str| {
            values(column).first().map_or(Cell::Empty, |&count| Cell::Count(count as u64))
        };
        let mean = |column: &str| Mean::of(&values(column)).cell(4);
        let largest =
            |column: &str, unit: f64| values(column).into_iter().fold(f64::NAN, f64::max) / unit;
        vec![
            Cell::from(arm.label.as_str()),
            count("n_params"),
            count("n_tokens"),
            Cell::setting(arm.training.optimiser.lr),
            mean("train_loss"),
            mean("validation_loss"),
            Cell::number(Mean::of(&values("tokens_per_sec")).value, 3),
            Cell::number(largest("peak_memory_bytes", 1e6), 3),
        ]
    };
    let caption =
        "Every arm, means over seeds; speed is that of one worker while the others run".to_owned();
    Table { caption, columns, rows: findings.arms().iter().map(row).collect() }
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

fn provenance(outcome: &Outcome) -> Vec<Block> {
    let (experiment, manifest) = (&outcome.experiment, &outcome.manifest);
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let commit = manifest.code.commit.as_deref().map_or("none".to_owned(), |commit| {
        let dirty = if manifest.code.dirty == Some(true) { " and uncommitted changes" } else { "" };
        format!("{}{dirty}", commit.get(..12).unwrap_or(commit))
    });
    let mut pairs = vec![
        ("paper".to_owned(), experiment.paper.clone()),
        ("started".to_owned(), manifest.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
        ("commit".to_owned(), commit),
        ("rustc".to_owned(), manifest.code.rustc.clone()),
        ("libtorch".to_owned(), or_unknown(&manifest.code.libtorch)),
        ("processor".to_owned(), or_unknown(&manifest.machine.processor)),
        ("device".to_owned(), manifest.machine.device.clone()),
        (
            "workers".to_owned(),
            format!("{} of {} thread(s)", manifest.machine.jobs, manifest.machine.threads),
        ),
        ("root seed".to_owned(), experiment.root_seed.to_string()),
        ("configuration".to_owned(), format!("sha256 {}", manifest.config_sha256)),
    ];
    for input in &manifest.inputs {
        pairs.push((input.role.clone(), format!("{} (sha256 {})", input.path, input.sha256)));
    }
    vec![
        Block::Command(Command {
            label: "Run it again".to_owned(),
            lines: vec![words::command(experiment)],
        }),
        Block::KeyValues(KeyValues { caption: "Manifest".to_owned(), pairs }),
    ]
}
