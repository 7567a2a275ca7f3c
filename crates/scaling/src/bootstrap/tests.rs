use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal};

use super::*;
use crate::fit::fit;
use crate::law::{PowerLaw, internal, predict};
use crate::objective::Objective;

/// A pure power law, whose fit is a straight line: everything about it is known in closed form.
fn runs(n: usize, seed: u64) -> Observations {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let law = PowerLaw::pure("x");
    let theta = internal(&law, &[5., 0.3]);
    let x: Vec<f64> = (0..n).map(|i| 10_f64.powf(1. + 3. * i as f64 / n as f64)).collect();
    let noisy = |x: &f64| {
        let error: f64 = StandardNormal.sample(&mut rng);
        predict(&law, &theta, &[("x", *x)]).unwrap() * (0.02 * error).exp()
    };
    Observations::new("y", x.iter().map(noisy).collect()).with_input("x", x)
}

fn run(
    observations: &Observations,
    objective: Objective,
    resampling: Resampling,
    seed: u64,
) -> Bootstrap {
    let law = PowerLaw::pure("x");
    let config = FitConfig::new(objective);
    let fitted = fit(&law, observations, &config).unwrap();
    let draws = BootstrapConfig { n_draws: 600, resampling, recheck_every: 50 };
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    bootstrap(&law, observations, &config, &fitted, &draws, &mut rng).unwrap()
}

#[test]
fn pairs_and_residuals_agree_with_the_asymptotic_errors() {
    let observations = runs(120, 1);
    let law = PowerLaw::pure("x");
    for objective in [Objective::NlsLog, Objective::HUBER, Objective::Lad] {
        let fitted = fit(&law, &observations, &FitConfig::new(objective)).unwrap();
        let expected = fitted.standard_errors()[1];
        for resampling in [Resampling::Pairs, Resampling::Residual] {
            let draws = run(&observations, objective, resampling, 2);
            let alpha = draws.summary(&Quantity::parameter(&law, "alpha").unwrap());
            // 600 draws know an error to 3 %; 120 points know what pairs and residuals estimate to some 10 %, less
            // where it hangs on the density at zero.
            let limit = if objective.is_square() { 0.25 } else { 0.45 };
            assert!(
                (alpha.se / expected - 1.).abs() < limit,
                "{objective:?} {resampling:?}: {} {expected}",
                alpha.se
            );
            assert!(alpha.ci95.contains(alpha.estimate));
            assert_eq!((draws.n_failed, draws.n_improved, draws.n_checked), (0, 0, 12));
        }
    }
}

#[test]
fn one_seed_gives_one_result() {
    let observations = runs(40, 3);
    let one = run(&observations, Objective::HUBER, Resampling::Pairs, 7);
    let same = run(&observations, Objective::HUBER, Resampling::Pairs, 7);
    let other = run(&observations, Objective::HUBER, Resampling::Pairs, 8);
    assert_eq!(one.theta, same.theta);
    assert_ne!(one.theta, other.theta);
}

#[test]
fn groups_that_err_together_need_the_cluster_bootstrap() {
    // 12 groups of 10 points; a group's points share their error.
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let base = runs(120, 4);
    let groups: Vec<usize> = (0..120).map(|i| i / 10).collect();
    let shared: Vec<f64> = (0..12).map(|_| StandardNormal.sample(&mut rng)).collect();
    let target = base.target().iter().zip(&groups).map(|(y, &g)| y * (0.1 * shared[g]).exp());
    let observations = base.with_target(target.collect()).with_clusters(groups);
    let law = PowerLaw::pure("x");
    let alpha = Quantity::parameter(&law, "alpha").unwrap();
    let pairs = run(&observations, Objective::NlsLog, Resampling::Pairs, 1).summary(&alpha).se;
    let clusters = run(&observations, Objective::NlsLog, Resampling::Cluster, 1).summary(&alpha).se;
    assert!(clusters > 1.8 * pairs, "{clusters} {pairs}");
}

#[test]
fn the_cluster_bootstrap_without_groups_is_refused() {
    let (law, observations) = (PowerLaw::pure("x"), runs(20, 1));
    let config = FitConfig::default();
    let fitted = fit(&law, &observations, &config).unwrap();
    let draws = BootstrapConfig { resampling: Resampling::Cluster, ..BootstrapConfig::default() };
    let mut rng = ChaCha20Rng::seed_from_u64(0);
    let error = bootstrap(&law, &observations, &config, &fitted, &draws, &mut rng).unwrap_err();
    assert_eq!(error.to_string(), "clusters must be given for the cluster bootstrap, got none");
}

#[test]
fn the_covariance_is_that_of_the_draws() {
    let draws = run(&runs(60, 9), Objective::NlsLog, Resampling::Pairs, 3);
    let covariance = draws.covariance();
    let alpha = draws.summary(&Quantity::parameter(&PowerLaw::pure("x"), "alpha").unwrap());
    assert!((covariance[[1, 1]].sqrt() / alpha.se - 1.).abs() < 1e-10);
    assert_eq!(covariance[[0, 1]], covariance[[1, 0]]);
}

#[test]
fn draws_of_too_few_distinct_points_are_counted_and_left_out() {
    // 4 points: a draw has one or two distinct ones with a probability of 34 %, and two points fit exactly.
    let draws = run(&runs(4, 2), Objective::NlsLog, Resampling::Pairs, 6);
    assert!((150..260).contains(&draws.n_too_few), "{}", draws.n_too_few);
    assert_eq!(draws.n_draws() + draws.n_too_few + draws.n_failed, 600);
    assert_eq!(draws.draws.len(), draws.n_draws());
    let warning = format!("{} of 600 draws have no more distinct points", draws.n_too_few);
    assert!(draws.warnings.iter().any(|text| text.starts_with(&warning)), "{:?}", draws.warnings);
    // Only draws that count are checked: 12 would be, were all of them counted.
    let checked = draws.draws.iter().filter(|draw| (**draw + 1).is_multiple_of(50)).count();
    assert_eq!(draws.n_checked, checked);
    assert!(checked < 12);
}

#[test]
fn rows_of_fits_that_stand_apart_go_together_by_their_draws() {
    let few = runs(4, 2);
    // Without weight, point 3 is one that draws can do without: other draws count.
    let fewer = few.clone().with_weights(vec![1., 1., 1., 0.]);
    let [one, other] =
        [&few, &fewer].map(|runs| run(runs, Objective::NlsLog, Resampling::Pairs, 6));
    assert_ne!(one.draws, other.draws);
    let both = common_draws(&[one.clone(), other.clone()]);
    assert!(!both.is_empty() && both.len() < one.n_draws());
    for rows in &both {
        assert_eq!(one.draws[rows[0]], other.draws[rows[1]]);
    }
    let shared = one.draws.iter().filter(|draw| other.row_of(**draw).is_some()).count();
    assert_eq!(shared, both.len());
    assert_eq!(one.row_of(one.draws[5]), Some(5));
    let missing = (0..600).find(|draw| !one.draws.contains(draw)).unwrap();
    assert_eq!(one.row_of(missing), None);
    assert_eq!(common_draws::<Bootstrap>(&[]), Vec::<Vec<usize>>::new());
}
