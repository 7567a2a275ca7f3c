//! What `fit --json` writes. Keys are stable: a new version may add some, and changes none.

use forerun_scaling::compare::{HeldOut, Score};
use forerun_scaling::mixture::Mixture;
use serde::{Serialize, Serializer};

use crate::number::short;

/// A number with its uncertainty.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The value at the optimum.
    pub estimate: f64,
    /// Standard error: of the bootstrap draws, else asymptotic; null where the data leave it open.
    pub se: Option<f64>,
    /// 95 % interval `[low, high]`: percentiles of the bootstrap, else by profile likelihood; an unbounded end is null. Where
    /// there is a `problem`, it may hold the truth less often.
    pub ci95: Option<[f64; 2]>,
    /// Why there is no interval, or what is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Estimate {
    /// One that nothing is wrong with.
    pub(crate) fn new(estimate: f64, se: Option<f64>, ci95: Option<[f64; 2]>) -> Self {
        Self { estimate, se, ci95, problem: None }
    }

    /// An interval whose ends are both there.
    pub(crate) fn bounded(&self) -> Option<[f64; 2]> {
        self.ci95.filter(|ends| ends.iter().all(|end| end.is_finite()))
    }
}

/// Names and values in reading order; a JSON object.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(vec![])
    }
}

impl<T> Named<T> {
    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(crate) fn push(&mut self, name: impl Into<String>, value: T) {
        self.0.push((name.into(), value));
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A point that was left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DroppedRow {
    /// Family or domain; absent where there is one fit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// Row of the table, counted from 1 without the header.
    pub row: usize,
    /// Its loss or learning rate.
    pub target: f64,
    /// Why.
    pub reason: String,
}

/// A prediction that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Family or domain; absent where there is one fit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// Where.
    pub inputs: Named<f64>,
    /// What, with its interval.
    #[serde(flatten)]
    pub value: Estimate,
}

impl Prediction {
    /// Where, in short.
    pub(crate) fn name(&self) -> String {
        let inputs = self.inputs.0.iter().map(|(name, value)| format!("{name}={}", short(*value)));
        let place = inputs.collect::<Vec<_>>().join(" ");
        format!("{} {place}", self.part).trim().to_owned()
    }
}

/// A local optimum that the search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OptimumFound {
    /// Family or domain; absent where there is one fit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// Its objective.
    pub objective: f64,
    /// Starts that ended there.
    pub starts: usize,
}

/// How the valleys of a sweep over learning rates were read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepFound {
    /// Cells of one size, horizon and batch.
    pub cells: usize,
    /// Those that show a best learning rate.
    pub identified: usize,
    /// Those that show one with all of their points, and none with the points that were used.
    pub lost: usize,
    /// `one-slant`: valleys are steeper on one side, by as much in all cells, and that was taken out. `rough`: no window
    /// shows one slant; `untested`: there are too few points to tell; both are plain parabolas.
    pub valleys: String,
    /// Points this far from their cell's parabola optimum were used, in `ln lr`; null for all points.
    pub reach: Option<f64>,
    /// Degrees of freedom of the narrower window that says most about this one; few of them see little. Null where no
    /// slant was taken out.
    pub tested_with: Option<f64>,
    /// Nats per cube of `ln lr`.
    pub slant: Option<Estimate>,
    /// The probability of a fifth-order term as large as that of the residuals, were there none; null where the points
    /// cannot tell.
    pub p_smooth: Option<f64>,
    /// The median curvature: `loss = best + curvature · ln(lr / best lr)²`, nats.
    pub curvature: Option<f64>,
}

/// A mixture and the samplers that it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MixtureFound {
    /// What it makes small, in words.
    pub objective: String,
    /// The shares, with intervals.
    pub shares: Named<Estimate>,
    /// The weighted sum there.
    pub value: f64,
    /// The weighted sum of other samplers: `uniform`; with `--available` also `proportional`, `temperature` (exponent
    /// 0.3), `unimax`, and `capped`, the best that repeats no family more often than `--epochs` says.
    pub others: Named<f64>,
    /// Their shares, by sampler and family.
    pub other_shares: Named<Named<f64>>,
}

/// The test of independence of one family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IndependenceFound {
    /// The statistic.
    pub f: f64,
    /// Degrees of freedom.
    pub df: [usize; 2],
    /// Its p-value.
    pub p: f64,
    /// Corrected for the number of families (Holm).
    pub p_holm: f64,
    /// The other share with the largest effect on the logarithm of the loss, and that effect.
    pub strongest: Option<(String, f64)>,
}

/// One of the three ways to find the best size for a budget (Hoffmann et al. 2022).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApproachFound {
    /// 1: the best runs; 2: parabolas through runs of equal compute; 3: the fitted law.
    pub approach: usize,
    /// Runs or budgets that it goes by; 0 for the law.
    pub n_points: usize,
    /// The exponent of `N* ∝ C^a`; absent where the runs do not show it.
    pub a: Option<Estimate>,
    /// `N*` by budget, parameters.
    pub n_opt: Named<f64>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Laws on the same points and folds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Folds of the cross-validation.
    pub n_folds: usize,
    /// The runs left out for `held_out_error`: those with more of `input` than `above`; null where the table is too
    /// small to spare them.
    pub held_out: Option<HeldOut>,
    /// One entry a law: `name`, `n_points`, `n_free`, `log_likelihood`, `aic`, `bic`, `fold_error`, `held_out_error`
    /// (mean relative errors), `problems`.
    pub laws: Vec<Score>,
}

/// The whole answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FitOutput {
    /// The law, as `--law` calls it.
    pub law: String,
    /// The objective, as `--objective` calls it.
    pub objective: String,
    /// Its value, a sum over points and parts.
    pub objective_value: f64,
    /// Points that were fitted, over all parts.
    pub n_points: usize,
    /// Points that were left out.
    pub dropped: Vec<DroppedRow>,
    /// Parameters by the literature's names; with several parts, `NAME_PART`.
    pub params: Named<Estimate>,
    /// What follows from them: `a`, `b`, `G`, `n_opt(C)`, `d_opt(C)`, `loss_opt(C)`; for repeated data `worth(EPOCHS)` and
    /// `half_life`; for learning rates `lr_opt(PLACE)`.
    pub derived: Named<Estimate>,
    /// How a sweep over learning rates was read; null for other tables.
    pub sweep: Option<SweepFound>,
    /// The best size for a budget by three approaches, for laws of size and horizon.
    pub approaches: Vec<ApproachFound>,
    /// Which law describes these runs, where there are several to choose from.
    pub comparison: Comparison,
    /// Optimal mixtures.
    pub mixtures: Vec<MixtureFound>,
    /// Tests of independence, by family.
    pub independence: Named<IndependenceFound>,
    /// What `--predict` asked for.
    pub predictions: Vec<Prediction>,
    /// How intervals were made: `bootstrap-pairs`, `bootstrap-residual`, `bootstrap-cluster`, `profile-likelihood`.
    pub interval_method: String,
    /// Bootstrap draws that count.
    pub draws: usize,
    /// Starts of the search, over all parts.
    pub starts: usize,
    /// Distinct optima that they ended at, best first, part by part.
    pub optima: Vec<OptimumFound>,
    /// What a reader must know.
    pub warnings: Vec<String>,
    /// How the table was read.
    pub notes: Vec<String>,
}

/// Names that a warning lists.
const MAX_NAMES: usize = 6;

impl FitOutput {
    /// Says of every interval of a parameter, of what follows and of a prediction that it may not hold what it says.
    pub(crate) fn doubt(&mut self, doubt: &str) {
        let named = self.params.0.iter_mut().chain(&mut self.derived.0).map(|(_, value)| value);
        let predicted = self.predictions.iter_mut().map(|one| &mut one.value);
        for value in named.chain(predicted).filter(|value| value.ci95.is_some()) {
            value.problem = Some(match value.problem.take() {
                Some(problem) => format!("{problem}; {doubt}"),
                None => doubt.to_owned(),
            });
        }
    }

    /// What is wrong with intervals, each reason once with the names that it concerns; what was warned of already is not
    /// said again.
    pub(crate) fn problems(&self) -> Vec<String> {
        let named = self.params.0.iter().chain(&self.derived.0);
        let named = named.map(|(name, value)| (name.clone(), value));
        let predicted = self.predictions.iter().map(|one| (one.name(), &one.value));
        let shares = self.mixtures.iter().flat_map(|mixture| &mixture.shares.0);
        let shares = shares.map(|(name, value)| (format!("the share of {name}"), value));
        let mut found: Vec<(&str, bool, Vec<String>)> = vec![];
        for (name, value) in named.chain(predicted).chain(shares) {
            let Some(problem) = &value.problem else { continue };
            if self.warnings.contains(problem) {
                continue;
            }
            let is_open = value.ci95.is_none();
            match found.iter_mut().find(|(known, open, _)| (*known, *open) == (problem, is_open)) {
                Some((_, _, names)) => names.push(name),
                None => found.push((problem, is_open, vec![name])),
            }
        }
        let words = |(problem, is_open, names): (&str, bool, Vec<String>)| {
            let more = names.len().saturating_sub(MAX_NAMES);
            let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names = names[..names.len() - more].join(", ");
            let what = if is_open { "no interval for" } else { "the interval of" };
            format!("{what} {names}{tail}: {problem}")
        };
        found.into_iter().map(words).collect()
    }

    pub(crate) fn mixture(
        objective: &str,
        names: &[String],
        mixture: &Mixture,
        shares: Vec<Estimate>,
    ) -> MixtureFound {
        MixtureFound {
            objective: objective.to_owned(),
            shares: Named(names.iter().cloned().zip(shares).collect()),
            value: mixture.objective,
            others: Named::default(),
            other_shares: Named::default(),
        }
    }
}
