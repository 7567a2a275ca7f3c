//! The cell that says how far fitted laws are to be trusted: intervals, tests of whether a family's loss depends on its
//! own share alone, and laws that know more or less of the mixture.
//!
//! Intervals are bootstraps over mixtures: a draw takes the same mixtures, with all models that were trained on them, for
//! every family, fits every law again and finds the best mixture again.

use std::collections::BTreeMap;

use anyhow::Result;
use forerun_runs::seed::Seed;
use forerun_scaling::independence::{Independence, holm, independence, independence_at_levels};
use forerun_scaling::interval::expanded_interval;
use forerun_scaling::{Bootstrap, BootstrapConfig, Interval, Resampling, bootstrap, common_draws};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::companions::{Companions, effects};
use super::fit::{find, models, parameters, unidentified};
use super::laws::{FamilyFit, Fitted, Form, Grouped, Model, observations, others, share_input};
use super::train::{by_family, owned};
use crate::cell::{CellResult, Series};
use crate::worker::{End, Work};

/// One draw in so many is fitted from cold starts as well.
const RECHECK_EVERY: usize = 100;

/// Laws to be assessed, of the models of the cells that are needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssessMixture {
    /// What was fitted.
    pub fitted: Fitted,
    /// Draws of the bootstrap.
    pub draws: usize,
    /// Root of the bootstrap.
    pub seed: u64,
}

/// Assesses; one that is stopped starts again.
pub(crate) fn run(task: &AssessMixture, work: &Work<'_>) -> Result<End> {
    Ok(End::Result(match assess(task, &models(work)?) {
        Ok(result) => result,
        Err(error) => unidentified(&error),
    }))
}

/// Everything that a run keeps of an assessment.
pub(super) fn assess(task: &AssessMixture, models: &[Model]) -> Result<CellResult> {
    let fitted = &task.fitted;
    let found = find(fitted, models)?;
    let own: Vec<Option<&FamilyFit>> = found.families.iter().map(Some).collect();
    let other = |form: Form| -> Vec<Option<FamilyFit>> {
        let law = |(family, own)| fitted.other_law(form, models, family, own);
        found.families.iter().enumerate().map(law).collect()
    };
    let (all, none) = (other(Form::AllShares), other(Form::NoShare));
    let all: Vec<Option<&FamilyFit>> = all.iter().map(Option::as_ref).collect();

    let mut curves = Vec::new();
    for (family, law) in fitted.families.iter().zip(&all) {
        curves.extend(law.map(|l| parameters(Form::AllShares, &family.name, &l.fit.theta)));
    }
    for (family, law) in fitted.families.iter().zip(&none) {
        curves.extend(law.iter().map(|l| parameters(Form::NoShare, &family.name, &l.fit.theta)));
    }
    curves.extend(tests(fitted, models));

    let mut warnings = Vec::new();
    let drawn = Drawn::new(task, models, &own);
    warnings.extend(drawn.warnings("the laws", task.draws));
    curves.extend(intervals(fitted, &found.families, &drawn, &found.best.shares));
    let drawn = Drawn::new(task, models, &all);
    warnings.extend(drawn.warnings("the laws with the others' shares", task.draws));
    curves.extend(companions(fitted, &all, &drawn).into_iter().flat_map(|c| c.told()));

    let row = BTreeMap::from([
        ("outcome", json!("finished")),
        ("n_models", json!(models.len())),
        ("warnings", json!(warnings.join("; "))),
    ]);
    Ok(CellResult { row: owned(row), series: curves, ..CellResult::default() })
}

/// Laws fitted again to draws of mixtures.
struct Drawn {
    /// Parameters by draw and family, of the draws in which every family's law could be fitted.
    thetas: Vec<Vec<Vec<f64>>>,
    n_checked: usize,
    n_improved: usize,
    /// Degrees of freedom of intervals, and by how much draws scatter less than samples do.
    freedom: f64,
    widen: f64,
}

impl Drawn {
    /// Every family's law fitted to the same draws; none where a family has no law.
    fn new(task: &AssessMixture, models: &[Model], families: &[Option<&FamilyFit>]) -> Self {
        let names = task.fitted.names();
        let config = BootstrapConfig {
            n_draws: task.draws,
            resampling: Resampling::Cluster,
            recheck_every: RECHECK_EVERY,
        };
        let one = |(family, fit): (usize, &Option<&FamilyFit>)| -> Option<Bootstrap> {
            let FamilyFit { law, config: objective, fit } = (*fit)?;
            let points = observations(&names, models, family, Grouped::Mixtures);
            // One seed: a draw has the same mixtures for every family.
            let mut rng = Seed::new(task.seed).stream("bootstrap");
            bootstrap(law, &points, objective, fit, &config, &mut rng).ok()
        };
        let all: Option<Vec<Bootstrap>> = families.iter().enumerate().map(one).collect();
        let all = all.unwrap_or_default();
        let theta = |(one, row): (&Bootstrap, usize)| one.theta.row(row).to_vec();
        let draw = |rows: Vec<usize>| all.iter().zip(rows).map(theta).collect();
        Self {
            thetas: common_draws(&all).into_iter().map(draw).collect(),
            n_checked: all.iter().map(|one| one.n_checked).sum(),
            n_improved: all.iter().map(|one| one.n_improved).sum(),
            freedom: all.first().map_or(1.0, |one| one.freedom),
            widen: all.first().map_or(1.0, |one| one.widen),
        }
    }

    fn warnings(&self, what: &str, n_draws: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        let failed = n_draws - self.thetas.len();
        if failed > 0 {
            warnings.push(format!(
                "{failed} of {n_draws} draws of mixtures in which {what} could not be fitted for every family are left out"
            ));
        }
        if 50 * self.n_improved > self.n_checked {
            warnings.push(format!(
                "of {} fits to draws of mixtures ({what}) that were started cold as well, {} ended lower: intervals may be \
                 too narrow",
                self.n_checked, self.n_improved
            ));
        }
        warnings
    }

    /// The central 95 % of a quantity, at a level that allows for few mixtures, widened to the estimate where that lies
    /// outside; not a number if no draw has it.
    fn interval(&self, draws: &[f64], estimate: f64) -> Interval {
        if draws.is_empty() {
            return Interval { low: f64::NAN, high: f64::NAN };
        }
        let Interval { low, high } = expanded_interval(draws, 0.95, self.freedom, self.widen);
        Interval { low: low.min(estimate), high: high.max(estimate) }
    }
}

/// The parameters of the laws of the own share, by draw and family.
#[cfg(test)]
pub(super) fn own_draws(task: &AssessMixture, models: &[Model]) -> Result<Vec<Vec<Vec<f64>>>> {
    let families = find(&task.fitted, models)?.families;
    let families: Vec<Option<&FamilyFit>> = families.iter().map(Some).collect();
    Ok(Drawn::new(task, models, &families).thetas)
}

/// Of the best shares and of gamma.
fn intervals(fitted: &Fitted, families: &[FamilyFit], drawn: &Drawn, best: &[f64]) -> Vec<Series> {
    let mut shares = vec![Vec::new(); families.len()];
    let mut gammas = vec![Vec::new(); families.len()];
    for thetas in &drawn.thetas {
        let thetas: Vec<&[f64]> = thetas.iter().map(Vec::as_slice).collect();
        for ((column, family), theta) in gammas.iter_mut().zip(families).zip(&thetas) {
            column.push(theta[family.law.gamma_index()]);
        }
        let Ok(found) = fitted.mixture(families, &thetas) else { continue };
        shares.iter_mut().zip(found.shares).for_each(|(column, share)| column.push(share));
    }
    let of = |columns: &[Vec<f64>], estimates: &[f64]| -> (Vec<f64>, Vec<f64>) {
        let pairs = columns.iter().zip(estimates);
        pairs.map(|(column, &estimate)| drawn.interval(column, estimate)).map(ends).unzip()
    };
    let gamma: Vec<f64> = families.iter().map(|f| f.fit.theta[f.law.gamma_index()]).collect();
    let (share_low, share_high) = of(&shares, best);
    let (gamma_low, gamma_high) = of(&gammas, &gamma);
    vec![
        by_family("share-low", &share_low),
        by_family("share-high", &share_high),
        by_family("gamma-low", &gamma_low),
        by_family("gamma-high", &gamma_high),
    ]
}

fn ends(interval: Interval) -> (f64, f64) {
    (interval.low, interval.high)
}

/// What companions do, with the scatter over draws; none where a family has no law with them.
fn companions(fitted: &Fitted, laws: &[Option<&FamilyFit>], drawn: &Drawn) -> Option<Companions> {
    let n = fitted.families.len();
    let laws: Vec<&FamilyFit> = laws.iter().copied().collect::<Option<_>>()?;
    let of = |thetas: &[&[f64]]| -> Vec<Vec<f64>> {
        let parts = laws.iter().zip(thetas).enumerate();
        parts.map(|(family, (law, theta))| effects(&law.law, theta, family, n)).collect()
    };
    let thetas: Vec<&[f64]> = laws.iter().map(|law| law.fit.theta.as_slice()).collect();
    let draws: Vec<Vec<Vec<f64>>> = drawn
        .thetas
        .iter()
        .map(|thetas| of(&thetas.iter().map(Vec::as_slice).collect::<Vec<&[f64]>>()))
        .collect();
    Some(Companions::new(fitted.names(), of(&thetas), &draws, (drawn.freedom, drawn.widen)))
}

/// Both F-tests of every family.
fn tests(fitted: &Fitted, models: &[Model]) -> Vec<Series> {
    let names = fitted.names();
    let inputs: Vec<String> = names.iter().map(|name| share_input(name)).collect();
    let mut line = Vec::new();
    let mut levels = Vec::new();
    for (family, name) in names.iter().enumerate() {
        let points = observations(&names, models, family, Grouped::Stacks);
        let others = others(&inputs, family);
        line.push(independence(name, &points, &others).ok());
        levels.push(independence_at_levels(name, &points, &others).ok());
    }
    [test("line", &line), test("levels", &levels)].concat()
}

/// A test of all families: statistic, p-values and explained variances.
fn test(name: &str, families: &[Option<Independence>]) -> Vec<Series> {
    let column = |value: &dyn Fn(&Independence) -> f64| -> Vec<f64> {
        families.iter().map(|family| family.as_ref().map_or(f64::NAN, value)).collect()
    };
    let p = column(&|test| test.p_value);
    let adjusted = if p.iter().all(|p| p.is_finite()) { holm(&p) } else { vec![f64::NAN; p.len()] };
    [
        ("p", p),
        ("p-holm", adjusted),
        ("f", column(&|test| test.f)),
        ("df-2", column(&|test| test.df[1] as f64)),
        ("r2-own", column(&|test| test.r2_own)),
        ("r2-all", column(&|test| test.r2_all)),
    ]
    .map(|(what, values)| by_family(&format!("independence/{name}/{what}"), &values))
    .into()
}
