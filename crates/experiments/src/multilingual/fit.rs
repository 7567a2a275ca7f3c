//! The cell that fits the law of every family to trained models, tests whether a family's loss depends on its own share
//! alone, and finds the best mixture.
//!
//! All intervals are bootstraps over models: a draw takes the same models for every family, fits every law again and
//! finds the best mixture again.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use forerun_runs::seed::Seed;
use forerun_scaling::independence::{Independence, holm, independence, independence_at_levels};
use forerun_scaling::interval::percentile_interval;
use forerun_scaling::law::Family;
use forerun_scaling::mixture::{Component, Mixture, Weighing, optimise};
use forerun_scaling::{
    Bootstrap, BootstrapConfig, Constraint, Fit, FitConfig, Interval, Objective, Observations,
    Resampling, bootstrap, fit,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::place::{LOSS, SHARE};
use super::train::{by_family, owned};
use crate::cell::{CellResult, MemberResult, Series};
use crate::training_log::series;
use crate::worker::{End, Work, needed_result};

/// What is said of a family whose share is at its cap.
pub(super) const CAPPED: &str = "the share is what the text lasts for, not what would be best";
/// One draw in so many is fitted from cold starts as well.
const RECHECK_EVERY: usize = 100;

/// What is fitted, and to what the best mixture belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitMixture {
    /// The families, in the order of the trainings.
    pub families: Vec<FittedFamily>,
    /// Whether the models differ in size and horizon.
    pub scale: FittedScale,
    /// What a fit minimises.
    pub objective: Objective,
    /// How families are weighed in the mixture.
    pub weighing: Weighing,
    /// Non-embedding parameters for which the mixture is to be best.
    pub at_params: f64,
    /// The horizon for which the mixture is to be best, tokens.
    pub at_tokens: f64,
    /// Draws of the bootstrap.
    pub draws: usize,
    /// Root of the bootstrap.
    pub seed: u64,
}

/// One family of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedFamily {
    /// Its name.
    pub name: String,
    /// Weight of its loss in the objective.
    pub weight: f64,
    /// Largest share: what its text lasts for.
    pub cap: f64,
}

/// What the models of a fit differ in beside their mixtures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FittedScale {
    /// Sizes and horizons: the whole law.
    Many,
    /// Nothing: a constant times a power of the share.
    One,
}

impl FittedScale {
    /// The law of a family; with the shares of `others`, if any, as cross terms.
    pub(super) fn law(self, family: &str, others: &[&str]) -> Family {
        let law = match self {
            Self::Many => Family::new(family),
            Self::One => Family::at_one_scale(family),
        };
        if others.is_empty() { law } else { law.with_cross_terms(others) }
    }
}

/// One trained model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    /// Which stack it was in: models of one stack have size, horizon, initial weights and order of data in common.
    pub(super) stack: usize,
    pub(super) n_params: f64,
    pub(super) n_tokens: f64,
    /// By family.
    pub(super) shares: Vec<f64>,
    /// By family, nats per character.
    pub(super) losses: Vec<f64>,
}

/// The law of one family.
pub(super) struct FamilyFit {
    pub(super) law: Family,
    /// How it could be fitted.
    config: FitConfig,
    pub(super) own: Fit,
    /// The law with the others' shares as well; none where they cannot be told apart.
    pub(super) with_others: Option<Fit>,
    pub(super) line: Option<Independence>,
    pub(super) levels: Option<Independence>,
}

/// All that a fit finds.
pub(super) struct Analysis {
    pub(super) families: Vec<FamilyFit>,
    pub(super) best: Mixture,
    pub(super) share_intervals: Vec<Interval>,
    pub(super) gamma_intervals: Vec<Interval>,
    /// Loss of each family at a share of 1, nats per character.
    pub(super) alone: Vec<f64>,
    pub(super) warnings: Vec<String>,
}

/// Fits; one that is stopped starts again.
pub(crate) fn run(task: &FitMixture, work: &Work<'_>) -> Result<End> {
    let mut models = Vec::new();
    for need in 0..work.cell.needs.len() {
        let trained = needed_result(&work.needed(need)?)?;
        models.extend(trained.members.iter().filter_map(|member| model(need, &trained, member)));
    }
    Ok(End::Result(match analyse(task, &models) {
        Ok(analysis) => tell(task, &models, &analysis),
        // Too few models came to their end, or no loss falls with its share: that is a result.
        Err(error) => unidentified(&error),
    }))
}

/// A member with its losses; none if it did not come to its end.
fn model(stack: usize, trained: &CellResult, member: &MemberResult) -> Option<Model> {
    let number = |row: &BTreeMap<String, Value>, name: &str| row.get(name)?.as_f64();
    let curve = |name: &str| -> Option<Vec<f64>> {
        let series = member.series.iter().find(|series| series.name == name)?;
        series.y.iter().copied().collect()
    };
    Some(Model {
        stack,
        n_params: number(&trained.row, "n_non_embedding_params")?,
        n_tokens: number(&member.row, "n_tokens")?,
        shares: curve(SHARE)?,
        losses: curve(LOSS)?,
    })
}

/// The law of every family, and the best mixture.
pub(super) fn analyse(task: &FitMixture, models: &[Model]) -> Result<Analysis> {
    let mut families = Vec::new();
    for family in 0..task.families.len() {
        families.push(family_fit(task, models, family)?);
    }
    let thetas: Vec<&[f64]> = families.iter().map(|family| family.own.theta.as_slice()).collect();
    let best = mixture(task, &families, &thetas)?;
    let draws = BootstrapConfig {
        n_draws: task.draws,
        resampling: Resampling::Pairs,
        recheck_every: RECHECK_EVERY,
    };
    let mut drawn = Vec::new();
    for (index, family) in families.iter().enumerate() {
        let observations = observations(task, models, index);
        // The same stream for every family: a draw is of models.
        let mut rng = Seed::new(task.seed).stream("bootstrap");
        drawn.push(bootstrap(
            &family.law,
            &observations,
            &family.config,
            &family.own,
            &draws,
            &mut rng,
        )?);
    }
    let at = (task.at_params, task.at_tokens);
    let alone = families.iter().map(|f| f.law.scale_factor(&f.own.theta, at.0, at.1)).collect();
    Ok(Analysis {
        share_intervals: share_intervals(task, &families, &drawn, &best),
        gamma_intervals: gamma_intervals(&families, &drawn),
        warnings: warnings(task, &families, &drawn, &best),
        alone,
        best,
        families,
    })
}

/// What one family's law is fitted to; clusters are stacks.
fn observations(task: &FitMixture, models: &[Model], family: usize) -> Observations {
    let column = |of: &dyn Fn(&Model) -> f64| models.iter().map(of).collect::<Vec<f64>>();
    let mut observations = Observations::new("loss", column(&|model| model.losses[family]))
        .with_input("n", column(&|model| model.n_params))
        .with_input("d", column(&|model| model.n_tokens))
        .with_input("p", column(&|model| model.shares[family]));
    for (other, name) in share_inputs(task).iter().enumerate() {
        observations = observations.with_input(name, column(&|model| model.shares[other]));
    }
    observations.with_clusters(models.iter().map(|model| model.stack).collect())
}

/// Names of the inputs that are the families' shares.
fn share_inputs(task: &FitMixture) -> Vec<String> {
    task.families.iter().map(|family| share_input(&family.name)).collect()
}

pub(super) fn share_input(family: &str) -> String {
    format!("share_{family}")
}

/// The names beside that of this family.
pub(super) fn others(names: &[String], family: usize) -> Vec<&str> {
    let others = names.iter().enumerate().filter(|(index, _)| *index != family);
    others.map(|(_, name)| name.as_str()).collect()
}

fn family_fit(task: &FitMixture, models: &[Model], family: usize) -> Result<FamilyFit> {
    let name = &task.families[family].name;
    let inputs = share_inputs(task);
    let others = others(&inputs, family);
    let observations = observations(task, models, family);
    let law = task.scale.law(name, &[]);
    let mut config = FitConfig::new(task.objective);
    let mut own = fit(&law, &observations, &config);
    if own.is_err() && task.scale == FittedScale::Many {
        // As Gadre et al. 2024 do: one exponent where the data do not show two.
        config.constraints.push(Constraint::Equal("alpha".to_owned(), "beta".to_owned()));
        own = fit(&law, &observations, &config);
        if let Ok(own) = &mut own {
            own.warnings
                .push("alpha and beta are tied, as the data do not tell them apart".to_owned());
        }
    }
    let own = own.with_context(|| format!("the law of `{name}`"))?;
    let cross = task.scale.law(name, &others[..others.len() - 1]);
    Ok(FamilyFit {
        own,
        with_others: fit(&cross, &observations, &config).ok(),
        line: independence(name, &observations, &others).ok(),
        levels: independence_at_levels(name, &observations, &others).ok(),
        law,
        config,
    })
}

fn mixture(task: &FitMixture, families: &[FamilyFit], thetas: &[&[f64]]) -> Result<Mixture> {
    let at = (task.at_params, task.at_tokens);
    let component = |(index, family): (usize, &FamilyFit)| -> Result<Component> {
        let FittedFamily { name, weight, cap } = &task.families[index];
        let part = Component::fitted(name, &family.law, thetas[index], task.weighing, *weight, at)?;
        Ok(part.with_cap(*cap))
    };
    let components: Vec<Component> =
        families.iter().enumerate().map(component).collect::<Result<_>>()?;
    Ok(optimise(&components)?)
}

/// Of all draws that every family's law has; each holds the share itself.
fn share_intervals(
    task: &FitMixture,
    families: &[FamilyFit],
    drawn: &[Bootstrap],
    best: &Mixture,
) -> Vec<Interval> {
    let n_draws = drawn.iter().map(Bootstrap::n_draws).min().unwrap_or(0);
    let mut shares = vec![Vec::new(); families.len()];
    for draw in 0..n_draws {
        let thetas: Vec<Vec<f64>> = drawn.iter().map(|d| d.theta.row(draw).to_vec()).collect();
        let thetas: Vec<&[f64]> = thetas.iter().map(Vec::as_slice).collect();
        let Ok(found) = mixture(task, families, &thetas) else { continue };
        shares.iter_mut().zip(found.shares).for_each(|(column, share)| column.push(share));
    }
    shares.iter().zip(&best.shares).map(|(column, &share)| around(column, share)).collect()
}

fn gamma_intervals(families: &[FamilyFit], drawn: &[Bootstrap]) -> Vec<Interval> {
    let of = |(family, drawn): (&FamilyFit, &Bootstrap)| {
        let index = family.law.gamma_index();
        around(&drawn.theta.column(index).to_vec(), family.own.theta[index])
    };
    families.iter().zip(drawn).map(of).collect()
}

/// The central 95 % of the draws, widened to the estimate where that lies outside.
fn around(draws: &[f64], estimate: f64) -> Interval {
    let Interval { low, high } = percentile_interval(draws, 0.95);
    Interval { low: low.min(estimate), high: high.max(estimate) }
}

fn warnings(
    task: &FitMixture,
    families: &[FamilyFit],
    drawn: &[Bootstrap],
    best: &Mixture,
) -> Vec<String> {
    let mut by_text: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (index, family) in task.families.iter().enumerate() {
        let mut add = |text: String| by_text.entry(text).or_default().push(&family.name);
        families[index]
            .own
            .warnings
            .iter()
            .chain(&drawn[index].warnings)
            .cloned()
            .for_each(&mut add);
        if best.shares[index] == 0.0 {
            add("the loss does not fall with the share".to_owned());
        }
        if best.shares[index] >= family.cap * (1.0 - 1e-9) {
            add(format!("{CAPPED}, {:.3}", family.cap));
        }
    }
    let warnings = by_text.into_iter().map(|(text, names)| format!("{}: {text}", names.join(", ")));
    warnings.collect()
}

/// What a run keeps of it.
pub(super) fn tell(task: &FitMixture, models: &[Model], found: &Analysis) -> CellResult {
    let [share_low, share_high] = ends(&found.share_intervals);
    let [gamma_low, gamma_high] = ends(&found.gamma_intervals);
    let gamma: Vec<f64> = found.families.iter().map(|f| f.own.theta[f.law.gamma_index()]).collect();
    let mut curves = vec![
        by_family(SHARE, &found.best.shares),
        by_family("share-low", &share_low),
        by_family("share-high", &share_high),
        by_family("gamma", &gamma),
        by_family("gamma-low", &gamma_low),
        by_family("gamma-high", &gamma_high),
        by_family("loss-alone", &found.alone),
    ];
    for (family, fitted) in task.families.iter().zip(&found.families) {
        curves.push(parameters(&format!("theta/{}", family.name), &fitted.own.theta));
        if let Some(fit) = &fitted.with_others {
            curves.push(parameters(&format!("theta-with-others/{}", family.name), &fit.theta));
        }
    }
    let names: Vec<String> = share_inputs(task);
    curves.extend(tests("line", &names, &found.families, |family| family.line.as_ref()));
    curves.extend(tests("levels", &names, &found.families, |family| family.levels.as_ref()));
    let row = BTreeMap::from([
        ("outcome", json!("finished")),
        ("n_models", json!(models.len())),
        ("objective", json!(found.best.objective)),
        ("warnings", json!(found.warnings.join("; "))),
    ]);
    CellResult { row: owned(row), series: curves, ..CellResult::default() }
}

fn ends(intervals: &[Interval]) -> [Vec<f64>; 2] {
    let pairs = intervals.iter().map(|interval| (interval.low, interval.high));
    let (low, high) = pairs.unzip();
    [low, high]
}

/// A law's parameters in the solver's scale, over their places.
fn parameters(name: &str, theta: &[f64]) -> Series {
    series(name, theta.iter().enumerate().map(|(index, &value)| (index as f64, value)).collect())
}

/// A test of all families: statistic, p-values, explained variances, and the strongest companion by its place.
fn tests<'a>(
    name: &str,
    inputs: &[String],
    families: &'a [FamilyFit],
    of: impl Fn(&'a FamilyFit) -> Option<&'a Independence>,
) -> Vec<Series> {
    let column = |value: &dyn Fn(&Independence) -> f64| -> Vec<f64> {
        families.iter().map(|family| of(family).map_or(f64::NAN, value)).collect()
    };
    let p = column(&|test| test.p_value);
    let adjusted = if p.iter().all(|p| p.is_finite()) { holm(&p) } else { vec![f64::NAN; p.len()] };
    let place = |test: &Independence| {
        let strongest = test.strongest.as_ref();
        let index = strongest.and_then(|(name, _)| inputs.iter().position(|input| input == name));
        index.map_or(f64::NAN, |index| index as f64)
    };
    [
        ("p", p),
        ("p-holm", adjusted),
        ("f", column(&|test| test.f)),
        ("df-2", column(&|test| test.df[1] as f64)),
        ("r2-own", column(&|test| test.r2_own)),
        ("r2-all", column(&|test| test.r2_all)),
        ("strongest", column(&place)),
        ("effect", column(&|test| test.strongest.as_ref().map_or(f64::NAN, |found| found.1))),
    ]
    .map(|(what, values)| by_family(&format!("independence/{name}/{what}"), &values))
    .into()
}

fn unidentified(error: &anyhow::Error) -> CellResult {
    let row = BTreeMap::from([("outcome", json!(format!("no mixture: {error:#}")))]);
    CellResult { row: owned(row), ..CellResult::default() }
}

/// The mixture that a cell of this kind found; none if it found none.
pub(super) fn best_shares(fitted: &CellResult) -> Option<Vec<f64>> {
    let series = fitted.series.iter().find(|series| series.name == SHARE)?;
    series.y.iter().copied().collect()
}
