//! Data that follow their law to the last digits, or all but.

use super::*;

/// Power laws of every size and slope, as few and as many points, as near and as far apart.
fn exact_line(seed: u64) -> (Observations, [f64; 2]) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let alpha = rng.random_range(-2.0..2.0);
    let ln_a: f64 = rng.random_range(-20.0..20.0);
    let (start, width) = (rng.random_range(0.0..25.0), rng.random_range(0.1..12.0));
    let n = rng.random_range(3..60);
    let x: Vec<f64> = (0..n).map(|i| (start + width * f64::from(i) / f64::from(n)).exp()).collect();
    let y = x.iter().map(|x| (ln_a - alpha * x.ln()).exp()).collect();
    (Observations::new("y", y).with_input("x", x), [ln_a, alpha])
}

#[test]
fn exact_power_laws_are_fitted_from_their_one_start() {
    let law = PowerLaw::pure("x");
    for seed in 0..200 {
        let (runs, truth) = exact_line(seed);
        for objective in [Objective::HUBER, Objective::Lad, Objective::NlsLog, Objective::Nls] {
            let fit = fit(&law, &runs, &FitConfig::new(objective)).unwrap();
            let far = fit.theta.iter().zip(&truth).map(|(a, b)| (a - b).abs()).fold(0., f64::max);
            // Columns of logarithms, rounded to 16 digits, know a slope to 1e-14 over their width.
            assert!(far < 1e-9, "{seed} {objective:?}: off by {far:e}");
            assert_eq!((fit.n_starts, fit.n_failed), (1, 0), "{seed} {objective:?}");
        }
    }
}

#[test]
fn exact_data_of_every_law_need_no_warning() {
    let with = |more: &[f64]| TRUTH.iter().chain(more).copied().collect::<Vec<f64>>();
    let horizon = LrHorizon::of_size_and_tokens(CountUnit::Billions);
    let laws: Vec<(Box<dyn Law>, Vec<f64>)> = vec![
        (Box::new(Chinchilla::new()), TRUTH.to_vec()),
        (Box::new(Kaplan), vec![6.4e13, 1.8e13, 0.076, 0.103]),
        (Box::new(Family::new("x")), with(&[0.1])),
        (Box::new(Family::at_one_scale("x")), vec![3., 0.1]),
        (Box::new(Mixing::new(&["p", "q", "rest"])), vec![1.9, 0.3, -1.2, -0.1]),
        (Box::new(PowerLaw::with_floor("n")), vec![480., 0.35, 1.8]),
        (Box::new(PowerLaw::pure("n")), vec![3., -0.35]),
        (Box::new(horizon.clone()), vec![1.55e-3, 0.23, 0.32]),
        (Box::new(horizon.with_curvature()), vec![1.55e-3, 0.23, 0.32, 0.01]),
    ];
    for (law, natural) in laws {
        let law = law.as_ref();
        for objective in [Objective::HUBER, Objective::Lad, Objective::NlsLog, Objective::Nls] {
            check_recovery(law, &natural, objective, 1e-4);
            let fit = fit(law, &runs(law, &natural, 0., 0), &FitConfig::new(objective)).unwrap();
            let text = format!("{} {objective:?}: {:?}", law.name(), fit.warnings);
            assert!(!fit.warnings.iter().any(|text| text.contains("converge")), "{text}");
        }
    }
}

/// Best learning rates that follow a horizon law but for errors of `10^-3` to `10^-16`: of one size or several, with and
/// without a batch that varies, few cells and many.
fn almost_exact(seed: u64) -> (LrHorizon, Observations, f64) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let noise = 10_f64.powf(rng.random_range(-16.0..-3.0));
    let (has_size, has_batch) = (rng.random_bool(0.6), rng.random_bool(0.3));
    let law = match has_size {
        true => LrHorizon::of_size_and_tokens(CountUnit::Billions),
        false => LrHorizon::of_tokens(CountUnit::Billions),
    };
    let law = if has_batch { law.with_batch() } else { law };
    let (sizes, batches) = (if has_size { 3 } else { 1 }, if has_batch { 3 } else { 1 });
    let horizons = rng.random_range(4..8);
    let [alpha, beta, delta] =
        [0.; 3].map(|_| rng.random_range(-0.8..0.8_f64) * f64::from(rng.random_bool(0.9)));
    let factor = rng.random_range(1.3..4.0_f64);
    let (mut n, mut d, mut batch, mut lr) = (vec![], vec![], vec![], vec![]);
    for i in 0..sizes * horizons * batches {
        n.push(5e7 * 2.5_f64.powi(i % sizes));
        d.push(1e9 * factor.powi(i / sizes % horizons));
        batch.push(64. * 2_f64.powi(i / sizes / horizons));
        let error: f64 = StandardNormal.sample(&mut rng);
        let [ln_n, ln_d] = [&n, &d].map(|column: &Vec<f64>| (column[i as usize] / 1e9).ln());
        let line = -alpha * ln_n - beta * ln_d + delta * f64::ln(batch[i as usize]);
        lr.push((line - 7. + noise * error).exp());
    }
    let runs = Observations::new("lr", lr)
        .with_input("n", n)
        .with_input("d", d)
        .with_input("batch", batch);
    (law, runs, noise)
}

fn check_almost_exact(seed: u64) {
    let (law, runs, noise) = almost_exact(seed);
    for objective in [Objective::NlsLog, Objective::HUBER, Objective::Lad, Objective::Nls] {
        let config = FitConfig::new(objective);
        let text = format!("{seed} {objective:?} {noise:e}");
        let fit = fit(&law, &runs, &config).unwrap_or_else(|error| panic!("{text}: {error}"));
        // Errors of all cells together do not exceed five standard deviations of one; rounding is 1e-14 or so.
        let largest = fit.residuals.iter().map(|r| r.abs()).fold(0., f64::max);
        let scale = if objective.is_level() {
            runs.target().iter().copied().fold(0., f64::max)
        } else {
            1.
        };
        assert!(largest < scale * (6. * noise + 1e-13), "{text}: {largest:e}");
        for parameter in law.parameters() {
            let quantity = Quantity::parameter(&law, &parameter.name).unwrap();
            let found = crate::profile(&law, &runs, &config, &fit, &quantity, 0.95);
            let found = found.unwrap_or_else(|error| panic!("{text} {}: {error}", parameter.name));
            let is_bounded = !found.open_low && !found.open_high;
            assert!(is_bounded && found.interval.contains(found.estimate), "{text}: {found:?}");
        }
    }
}

#[test]
fn lines_that_are_all_but_exact_are_fitted_with_intervals() {
    let seeds = std::env::var("ALMOST_EXACT_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    (0..seeds).for_each(check_almost_exact);
    // Searches that once went to and fro within the rounding of their objective.
    [86, 101, 124].into_iter().for_each(check_almost_exact);
}
