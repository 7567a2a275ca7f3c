use super::*;

fn mean(tried: &[Tried], method: &str) -> f64 {
    let found = tried.iter().find(|one| one.method.starts_with(method)).unwrap();
    let known: Vec<f64> =
        found.regrets.iter().copied().filter(|regret| regret.is_finite()).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

#[test]
fn gadres_errors_are_those_of_the_reference_fits() {
    for (file, expected) in [
        ("gadre_c4_original.csv", [0.0248, 0.0344, 0.0478]),
        ("gadre_rpj.csv", [0.0095, 0.0183, 0.0450]),
    ] {
        let tried = gadre::errors(&data(file)).unwrap();
        for (one, expected) in tried.iter().zip(expected) {
            let error = one.regrets.iter().sum::<f64>() / one.regrets.len() as f64;
            assert!((error - expected).abs() < 1e-4, "{file}, {}: {error}", one.method);
        }
        assert!(mean(&tried, "the best loss so far") > mean(&tried, "tied"));
    }
}

#[test]
fn a_law_beats_habits_on_sizes() {
    let tried = porian::regrets(&data("porian_isoflop_owt2.csv")).unwrap();
    let habit = mean(&tried, "the size of the last budget");
    assert!(mean(&tried, "parabolas") < habit, "{} {habit}", mean(&tried, "parabolas"));
    assert!(
        tried.iter().all(|one| one.regrets.iter().all(|regret| regret.is_nan() || *regret >= 0.))
    );
}

#[test]
fn laws_choose_better_mixtures_than_chance() {
    let tried = regmix::regrets(&data("regmix_1m_train.csv")).unwrap();
    // The run nearest to uniform happens to be a good one here: the table shows it, no test should hide it.
    let chance = mean(&tried, "a run by chance");
    for law in ["each loss from its own share", "each loss from all shares"] {
        assert!(mean(&tried, law) < 0.5 * chance, "{law}: {} {chance}", mean(&tried, law));
    }
}

#[test]
fn learning_rates_fall_with_the_horizon_on_marins_runs() {
    let tried = marin::regrets(&data("marin_optimizer_lr.csv")).unwrap();
    let thumb = mean(&tried, "the rule of thumb");
    assert!(thumb < mean(&tried, "the best of the shortest horizon"), "{thumb}");
    assert!(thumb < 0.01 && mean(&tried, "twice that") > 0.1, "{thumb}");
    // Cells with three learning rates that did not diverge, at a longer horizon than another of the same batch.
    assert!(tried.iter().all(|one| one.regrets.len() == 18));
}

#[test]
fn interpolation_is_linear_in_the_logarithm() {
    let points = [(1., 4.), (100., 2.), (1e4, 3.)];
    let check =
        |x: f64, expected: f64| assert!((interpolate(&points, x) - expected).abs() < 1e-12, "{x}");
    check(10., 3.);
    check(1000., 2.5);
    check(0.1, 4.);
    check(1e9, 3.);
    assert_eq!(regret(&points, 100.), 0.);
    assert!(regret(&points, f64::NAN).is_nan());
}
