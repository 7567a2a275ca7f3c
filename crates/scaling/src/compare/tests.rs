use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::law::{Chinchilla, PowerLaw, internal, predict};
use crate::objective::Constraint;

/// 48 runs of a law with equal exponents and noise of 0.3 %.
fn runs() -> Observations {
    let law = Chinchilla::new();
    let theta = internal(&law, &[400., 500., 1.8, 0.3, 0.3]);
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let (mut n, mut d, mut loss) = (vec![], vec![], vec![]);
    for i in 0..6 {
        for j in 0..8 {
            n.push(1e7 * 3_f64.powi(i));
            d.push(1e9 * 2_f64.powi(j));
            let at = [("n", n[n.len() - 1]), ("d", d[d.len() - 1])];
            let noise: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.;
            loss.push(predict(&law, &theta, &at).unwrap() * (0.003 * noise).exp());
        }
    }
    Observations::new("loss", loss).with_input("n", n).with_input("d", d)
}

fn tied() -> FitConfig {
    let constraints = vec![Constraint::Equal("alpha".into(), "beta".into())];
    FitConfig { constraints, ..FitConfig::new(Objective::NlsLog) }
}

#[test]
fn the_true_law_beats_one_that_ignores_the_tokens() {
    let (chinchilla, power) = (Chinchilla::new(), PowerLaw::with_floor("n"));
    let candidates = [
        Candidate {
            name: "both".into(),
            law: &chinchilla,
            config: FitConfig::new(Objective::NlsLog),
        },
        Candidate { name: "tied".into(), law: &chinchilla, config: tied() },
        Candidate { name: "size".into(), law: &power, config: FitConfig::new(Objective::NlsLog) },
    ];
    let observations = runs();
    let held = largest_scale(&observations, "n", 1).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let scores = compare(&candidates, &observations, 6, Some(&held), &mut rng).unwrap();
    let [both, tied, size] = &scores[..] else { panic!() };
    for score in [both, tied] {
        assert!(score.aic.unwrap() < size.aic.unwrap() - 50., "{scores:?}");
        assert!(score.fold_error.unwrap() < 0.2 * size.fold_error.unwrap());
        assert!(score.held_out_error.unwrap() < 0.2 * size.held_out_error.unwrap());
        assert!(score.fold_error.unwrap() < 0.006, "noise is 0.3 %");
    }
    assert_eq!((both.n_free, tied.n_free), (5, 4));
    assert!(tied.bic.unwrap() < both.bic.unwrap(), "the truth is tied: {scores:?}");
}

#[test]
fn the_largest_scale_leaves_something_to_fit() {
    let observations = runs();
    let held = largest_scale(&observations, "n", 1).unwrap();
    assert_eq!(held.above, 1e7 * 81.);
    assert_eq!(largest_scale(&observations, "n", 9).unwrap().above, 1e7 * 27.);
    assert_eq!(largest_scale(&observations, "n", 40), None, "more than half");
    assert_eq!(largest_scale(&observations, "x", 1), None);
}

#[test]
fn a_candidate_that_cannot_be_fitted_says_why() {
    let law = Chinchilla::new();
    let candidates = [Candidate { name: "few".into(), law: &law, config: FitConfig::default() }];
    let few = runs().select(&[0, 9, 18, 27, 36]);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let scores = compare(&candidates, &few, 2, None, &mut rng).unwrap();
    assert_eq!(scores[0].aic, None);
    assert!(scores[0].problems[0].contains("needs more points than that, got 5"), "{scores:?}");
}

#[test]
fn likelihoods_of_different_objectives_are_of_one_target() {
    // A level fit of small noise and a log fit describe the same thing: their densities agree once both are of ln L.
    let (law, observations) = (Chinchilla::new(), runs());
    let of = |objective| {
        let fit = fit(&law, &observations, &FitConfig::new(objective)).unwrap();
        log_likelihood(&law, &fit, &observations).unwrap()
    };
    let [log, level] = [of(Objective::NlsLog), of(Objective::Nls)];
    assert!((log - level).abs() < 5., "{log} {level}");
}
