//! Fits with what intervals are made from.

use anyhow::{Result, bail};
use forerun_runs::seed::Seed;
use forerun_scaling::interval::quantile;
use forerun_scaling::law::Scale;
use forerun_scaling::{
    Bootstrap, BootstrapConfig, Error, Fit, FitConfig, Interval, Observations, Quantity,
    Resampling, bootstrap, fit, profile,
};

use crate::output::Estimate;
use crate::problem::{Part, Problem};

/// A part with its fit.
pub(crate) struct Solved<'a> {
    pub(crate) part: &'a Part,
    pub(crate) config: FitConfig,
    pub(crate) fit: Fit,
    pub(crate) bootstrap: Option<Bootstrap>,
}

/// Draws that were asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    pub(crate) n: usize,
    pub(crate) resampling: Resampling,
    pub(crate) seed: u64,
}

/// Fits every part; the same draws for all of them, so that draw k of one family goes with draw k of another.
pub(crate) fn solve<'a>(
    problem: &'a Problem,
    config: &FitConfig,
    draws: Draws,
) -> Result<Vec<Solved<'a>>> {
    let config = problem.constrain(config.clone());
    let solve = |part: &'a Part| {
        if draws.n > 0 && draws.resampling == Resampling::Cluster && part.n_groups() < 2 {
            bail!(
                "--resample cluster: all points are of one group; name a column of groups with --columns \
                 cluster=COLUMN"
            );
        }
        let fit = fit(part.law.as_ref(), &part.observations, &config)?;
        let bootstrap = match draws.n {
            0 => None,
            n => {
                let settings = BootstrapConfig {
                    n_draws: n,
                    resampling: draws.resampling,
                    ..BootstrapConfig::default()
                };
                let mut rng = Seed::new(draws.seed).stream("fit/bootstrap");
                let law = part.law.as_ref();
                Some(bootstrap(law, &part.observations, &config, &fit, &settings, &mut rng)?)
            }
        };
        Ok(Solved { part, config: config.clone(), fit, bootstrap })
    };
    problem.parts.iter().map(solve).collect()
}

/// A point this many robust standard deviations off is named.
const OFF: f64 = 8.;
/// Residuals that nobody minds, relative.
const NEGLIGIBLE: f64 = 1e-3;
/// Degrees of freedom that scatter is told from.
const MIN_FREEDOM: usize = 5;
/// Rows that a warning names.
const MAX_ROWS: usize = 3;
/// An end this many times further out than the estimate is as good as open.
const OPEN: f64 = 1e12;

impl Solved<'_> {
    /// A quantity with standard error and interval: from the draws if there are any, else by profile likelihood.
    pub(crate) fn estimate(&self, quantity: &Quantity) -> Estimate {
        let estimate = quantity.natural(&self.fit.theta);
        if let Some(bootstrap) = &self.bootstrap {
            let summary = bootstrap.summary(quantity);
            let ends = [summary.ci95.low, summary.ci95.high];
            return Estimate::new(estimate, Some(summary.se), Some(ends));
        }
        let law = self.part.law.as_ref();
        let points = &self.part.observations;
        let se = self.standard_error(quantity);
        match profile(law, points, &self.config, &self.fit, quantity, 0.95) {
            Ok(found) => {
                let is_log = quantity.scale() == Scale::Log;
                let Interval { low, high } = found.interval;
                let is_open_low = found.open_low || is_log && low * OPEN < estimate;
                let is_open_high = found.open_high || is_log && high > OPEN * estimate;
                let low = if is_open_low { f64::NEG_INFINITY } else { low };
                let high = if is_open_high { f64::INFINITY } else { high };
                let problem = Some(found.warnings.join("; ")).filter(|text| !text.is_empty());
                Estimate { problem, ..Estimate::new(estimate, se, Some([low, high])) }
            }
            Err(error) => {
                let reason = match error {
                    Error::NotIdentified { reason, .. } => reason,
                    other => other.to_string(),
                };
                Estimate { problem: Some(reason), ..Estimate::new(estimate, se, None) }
            }
        }
    }

    /// A warning of points that lie far off the others' scatter.
    pub(crate) fn far_off(&self) -> Option<String> {
        let residuals = &self.fit.residuals;
        let mut sizes: Vec<f64> = residuals.iter().map(|r| r.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        // A fit makes about as many residuals zero as it has parameters; the others tell the scatter.
        let rest = sizes.get(self.fit.n_free..).filter(|rest| rest.len() >= MIN_FREEDOM)?;
        let scale = 1.4826 * quantile(rest, 0.5);
        let limit = (OFF * scale).max(NEGLIGIBLE);
        let mut off: Vec<(usize, f64)> =
            self.fit.rows.iter().copied().zip(residuals.iter().map(|r| r.abs())).collect();
        off.retain(|(_, size)| *size > limit);
        off.sort_by(|a, b| b.1.total_cmp(&a.1));
        let named: Vec<String> =
            off.iter().take(MAX_ROWS).map(|(row, _)| format!("row {row}")).collect();
        let more = off.len().saturating_sub(MAX_ROWS);
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        let part = Some(&self.part.name).filter(|name| !name.is_empty());
        let part = part.map_or_else(String::new, |name| format!("{name}: "));
        let point = if off.len() == 1 { "lies" } else { "lie" };
        (!off.is_empty()).then(|| {
            format!(
                "{part}{}{tail} {point} more than {OFF} robust standard deviations off the fit: if something went wrong \
                 there, leave out such points with --filter \"residual>{OFF}\"",
                named.join(", ")
            )
        })
    }

    /// Asymptotic, of the natural value.
    fn standard_error(&self, quantity: &Quantity) -> Option<f64> {
        let (variance, _) = self.fit.variance(quantity)?;
        let se = variance.max(0.).sqrt();
        Some(match quantity.scale() {
            Scale::Linear => se,
            Scale::Log => se * quantity.natural(&self.fit.theta),
        })
    }

    /// The points that were fitted.
    pub(crate) fn used(&self) -> Observations {
        self.part.observations.select(&self.fit.used)
    }
}
