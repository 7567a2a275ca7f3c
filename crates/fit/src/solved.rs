//! Fits with what intervals are made from.

use anyhow::{Result, bail};
use forerun_runs::seed::Seed;
use forerun_scaling::law::Scale;
use forerun_scaling::{
    Bootstrap, BootstrapConfig, Error, Fit, FitConfig, Observations, Quantity, Resampling,
    bootstrap, fit, profile,
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
                let low = if found.open_low { f64::NEG_INFINITY } else { found.interval.low };
                let high = if found.open_high { f64::INFINITY } else { found.interval.high };
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
