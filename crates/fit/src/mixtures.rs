//! The best mixture with intervals, beside the samplers that people use without a law.

use anyhow::{Context, Result, bail};
use clap::Args;
use forerun_scaling::interval::{expanded_interval, mean_and_sd};
use forerun_scaling::mixture::{
    self, Component, Mixture, Weighing, amplitude_covariance, optimise, share_errors,
    share_intervals,
};
use forerun_scaling::{Bootstrap, Interval, common_draws};

use crate::number;
use crate::output::{Estimate, FitOutput, MixtureFound, Named};
use crate::solved::Solved;

/// mT5's exponent for sampling by size.
const TAU: f64 = 0.3;

/// What there is of each family; only with it can samplers that go by size be compared.
#[derive(Args, Debug)]
pub(crate) struct SamplingArguments {
    /// Tokens that exist of each family, for proportional, temperature and UniMax sampling: Slavic=20B,Indic=2B
    #[arg(long, value_name = "NAME=NUMBER,…")]
    available: Option<String>,
    /// How often UniMax, and the best mixture with scarce data, may repeat a family
    #[arg(long, value_name = "TIMES", default_value_t = 4., requires = "available")]
    epochs: f64,
}

/// As parsed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Available {
    tokens: Vec<(String, f64)>,
    epochs: f64,
}

impl SamplingArguments {
    pub(crate) fn parse(&self) -> Result<Option<Available>> {
        let tokens = self.available.as_deref().map(number::pairs).transpose();
        let tokens = tokens.context("--available")?;
        Ok(tokens.map(|tokens| Available { tokens, epochs: self.epochs }))
    }
}

impl Available {
    /// Refuses what is no family, and a family of which nothing is said.
    pub(crate) fn check(&self, solved: &[Solved]) -> Result<()> {
        let names: Vec<String> = solved.iter().map(|one| one.part.name.clone()).collect();
        self.of(&names).map(|_| ())
    }

    /// In the order of the families.
    fn of(&self, families: &[String]) -> Result<Vec<f64>> {
        let known = |name: &str| self.tokens.iter().find(|(known, _)| known == name);
        if let Some((name, _)) = self.tokens.iter().find(|(name, _)| !families.contains(name)) {
            bail!("--available: `{name}` is no family; there are {}", families.join(", "));
        }
        let tokens = families.iter().map(|family| Some(known(family)?.1));
        let missing = families.iter().find(|family| known(family).is_none());
        tokens.collect::<Option<_>>().with_context(|| {
            format!("--available names no tokens of `{}`", missing.map_or("", String::as_str))
        })
    }
}

fn components(
    solved: &[Solved],
    theta: &[&[f64]],
    weighing: Weighing,
    scale: (f64, f64),
) -> Result<Vec<Component>> {
    let component = |(one, theta): (&Solved, &&[f64])| {
        let law = one.part.family.as_ref().context("no family law")?;
        Ok(Component::fitted(&one.part.name, law, theta, weighing, 1., scale)?)
    };
    solved.iter().zip(theta).map(component).collect()
}

/// The optimal mixture with intervals: from aligned bootstrap draws, else from the covariances of the fits.
pub(crate) fn optimum(
    solved: &[Solved],
    weighing: Weighing,
    scale: (f64, f64),
    available: &Option<Available>,
) -> Result<MixtureFound> {
    let names: Vec<String> = solved.iter().map(|one| one.part.name.clone()).collect();
    let theta: Vec<&[f64]> = solved.iter().map(|one| one.fit.theta.as_slice()).collect();
    let parts = components(solved, &theta, weighing, scale)?;
    let best = optimise(&parts)?;
    let drawn = draws(solved, weighing, scale);
    let shares = match drawn {
        Some(drawn) => from_draws(&best, &drawn),
        None => from_covariances(solved, &parts, &best, weighing, scale),
    };
    let words = match weighing {
        Weighing::Normalised => "sum of L_i / L_i(p = 1)".to_owned(),
        Weighing::Sum => format!("sum of L_i at n = {:e}, d = {:e}", scale.0, scale.1),
    };
    let mut found = FitOutput::mixture(&words, &names, &best, shares);
    let horizon = match weighing {
        Weighing::Normalised => longest(solved),
        Weighing::Sum => Some(scale.1),
    };
    for (sampler, shares) in samplers(&names, &parts, horizon, available)? {
        found.others.push(sampler, mixture::objective(&parts, &shares));
        let shares = names.iter().cloned().zip(shares).collect();
        found.other_shares.push(sampler, Named(shares));
    }
    Ok(found)
}

/// The longest horizon of the runs, tokens.
fn longest(solved: &[Solved]) -> Option<f64> {
    let d = solved.first()?.part.observations.input("d")?;
    Some(d.iter().copied().fold(0., f64::max))
}

/// The samplers that people use without a law, and the best mixture that repeats no family too often.
fn samplers(
    names: &[String],
    parts: &[Component],
    horizon: Option<f64>,
    available: &Option<Available>,
) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let mut found = vec![("uniform", mixture::uniform(parts.len())?)];
    let Some(available) = available else { return Ok(found) };
    let tokens = available.of(names)?;
    found.push(("proportional", mixture::proportional(&tokens).context("--available")?));
    found.push(("temperature", mixture::temperature(&tokens, TAU)?));
    let epochs = available.epochs;
    let room = epochs * tokens.iter().sum::<f64>();
    if let Some(horizon) = horizon.filter(|horizon| *horizon <= room) {
        found.push(("unimax", mixture::unimax(&tokens, horizon, epochs).context("UniMax")?));
        let cap = |tokens: &f64| (epochs * tokens / horizon).min(1.);
        let parts = parts.iter().cloned().zip(&tokens);
        let capped: Vec<Component> =
            parts.map(|(part, tokens)| part.with_cap(cap(tokens))).collect();
        found.push(("capped", optimise(&capped).context("the mixture with caps")?.shares));
    }
    Ok(found)
}

/// Optimal shares of bootstrap draws, and with how much caution intervals are read off them.
struct Drawn {
    /// `[draw][family]`.
    shares: Vec<Vec<f64>>,
    freedom: f64,
    widen: f64,
}

/// The optimal shares of every bootstrap draw; draws whose losses fall with no share are left out.
fn draws(solved: &[Solved], weighing: Weighing, scale: (f64, f64)) -> Option<Drawn> {
    let all: Vec<&Bootstrap> =
        solved.iter().map(|one| one.bootstrap.as_ref()).collect::<Option<_>>()?;
    let draw = |rows: Vec<usize>| {
        let rows: Vec<Vec<f64>> =
            all.iter().zip(rows).map(|(one, row)| one.theta.row(row).to_vec()).collect();
        let theta: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let parts = components(solved, &theta, weighing, scale).ok()?;
        optimise(&parts).ok().map(|mixture| mixture.shares)
    };
    Some(Drawn {
        shares: common_draws(&all).into_iter().filter_map(draw).collect(),
        freedom: all.iter().map(|one| one.freedom).fold(f64::INFINITY, f64::min),
        widen: all.iter().map(|one| one.widen).fold(1., f64::max),
    })
}

fn from_draws(best: &Mixture, drawn: &Drawn) -> Vec<Estimate> {
    let estimate = |(i, &share): (usize, &f64)| {
        let values: Vec<f64> = drawn.shares.iter().map(|shares| shares[i]).collect();
        let interval = expanded_interval(&values, 0.95, drawn.freedom, drawn.widen);
        let (_, sd) = mean_and_sd(&values);
        Estimate::new(share, Some(sd), Some([interval.low, interval.high]))
    };
    best.shares.iter().enumerate().map(estimate).collect()
}

fn from_covariances(
    solved: &[Solved],
    parts: &[Component],
    best: &Mixture,
    weighing: Weighing,
    scale: (f64, f64),
) -> Vec<Estimate> {
    let covariance =
        |one: &Solved| amplitude_covariance(one.part.family.as_ref()?, &one.fit, weighing, scale);
    let Some(covariances) = solved.iter().map(covariance).collect::<Option<Vec<_>>>() else {
        let reason = "a family's fit leaves a direction open";
        let plain = |&share: &f64| Estimate {
            problem: Some(reason.to_owned()),
            ..Estimate::new(share, None, None)
        };
        return best.shares.iter().map(plain).collect();
    };
    let freedom: Vec<f64> = solved.iter().map(|one| one.fit.freedom()).collect();
    let errors = share_errors(parts, &best.shares, &covariances);
    let intervals = share_intervals(parts, &best.shares, &covariances, &freedom, 0.95);
    let estimate = |((&share, se), interval): ((&f64, f64), Interval)| {
        Estimate::new(share, Some(se), Some([interval.low, interval.high]))
    };
    best.shares.iter().zip(errors).zip(intervals).map(estimate).collect()
}
