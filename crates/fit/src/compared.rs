//! Which law describes the runs: information criteria, cross-validation, and the error on the largest scale.

use anyhow::Result;
use forerun_runs::seed::Seed;
use forerun_scaling::compare::{Candidate, Score, compare, largest_scale};
use forerun_scaling::law::{Chinchilla, DataConstrained, Kaplan};
use forerun_scaling::{Constraint, FitConfig, Law, OutlierRule};

use crate::output::{Comparison, FitOutput};
use crate::problem::{LawName, Problem, tie};
use crate::solved::Solved;

/// Folds, where there are as many points.
const FOLDS: usize = 10;
/// Runs of the largest scale that are worth an error.
const AT_LEAST: usize = 3;
/// A law that predicts the largest runs this many times better, and better by this much, is worth a warning.
const CLEARLY: (f64, f64) = (1.25, 1e-3);

/// A law with its name and constraints.
type Rival = (&'static str, Box<dyn Law>, Vec<Constraint>);

/// Fills `comparison` for the laws that have rivals; parts of a mixture have their F-test instead.
pub(crate) fn compare_laws(
    problem: &Problem,
    solved: &[Solved],
    seed: u64,
    output: &mut FitOutput,
) -> Result<()> {
    let [one] = solved else { return Ok(()) };
    let rivals = rivals(problem.law, one);
    if rivals.is_empty() {
        return Ok(());
    }
    let points = one.used();
    let candidates: Vec<Candidate> = rivals
        .iter()
        .map(|(name, law, constraints)| Candidate {
            name: (*name).to_owned(),
            law: law.as_ref(),
            config: FitConfig {
                constraints: constraints.clone(),
                outliers: OutlierRule::Keep,
                ..one.config.clone()
            },
        })
        .collect();
    let held_out = ["n", "d"].iter().find_map(|input| largest_scale(&points, input, AT_LEAST));
    let n_folds = FOLDS.min(points.len());
    let mut rng = Seed::new(seed).stream("fit/folds");
    let laws = compare(&candidates, &points, n_folds, held_out.as_ref(), &mut rng)?;
    output.warnings.extend(better(&laws, &output.law));
    output.comparison = Comparison { n_folds, held_out, laws };
    Ok(())
}

fn rivals(law: LawName, solved: &Solved) -> Vec<Rival> {
    match law {
        LawName::Chinchilla | LawName::ChinchillaTied => vec![
            ("chinchilla", Box::new(Chinchilla::new()), vec![]),
            ("chinchilla-tied", Box::new(Chinchilla::new()), vec![tie()]),
            ("kaplan", Box::new(Kaplan), vec![]),
        ],
        LawName::DataConstrained => vec![
            ("data-constrained", Box::new(DataConstrained::default()), vec![]),
            ("chinchilla", Box::new(Chinchilla::new()), vec![]),
        ],
        LawName::LrHorizon => {
            let Some(law) = &solved.part.horizon else { return vec![] };
            let curved = law.clone().with_curvature();
            vec![
                ("lr-horizon", Box::new(law.clone()), vec![]),
                ("lr-horizon-curved", Box::new(curved), vec![]),
            ]
        }
        LawName::Multilingual | LawName::Mixing => vec![],
    }
}

/// Says so if another law predicts the largest runs clearly better than the one that was asked for.
fn better(laws: &[Score], own: &str) -> Option<String> {
    let error = |score: &Score| score.held_out_error;
    let ours = laws.iter().find(|score| score.name == own).and_then(error)?;
    let known = laws.iter().filter_map(|score| Some((error(score)?, &score.name)));
    let (best, name) = known.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let (factor, difference) = CLEARLY;
    (ours > factor * best && ours - best > difference).then(|| {
        format!(
            "fitted without the largest runs, `{name}` predicts them better: {:.2} % off on average, `{own}` {:.2} %",
            100. * best,
            100. * ours
        )
    })
}
