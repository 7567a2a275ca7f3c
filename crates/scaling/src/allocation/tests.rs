use proptest::prelude::*;

use super::*;
use crate::law::{Chinchilla, Kaplan, internal, predict};

/// Besiroglu et al. 2024, table 1: A, B, E, alpha, beta.
const EPOCH: [f64; 5] = [482.01, 2085.43, 1.81686, 0.34781, 0.36585];

fn epoch() -> Vec<f64> {
    internal(&Chinchilla::new(), &EPOCH)
}

#[test]
fn the_search_finds_the_closed_form() {
    let theta = epoch();
    for exponent in 15..=26 {
        let flops = Flops(10_f64.powi(exponent));
        let found = optimal_allocation(&Chinchilla::new(), &theta, flops, &[]).unwrap();
        let (n, d) = Chinchilla::frontier(&theta).at(flops);
        // The loss is quadratic at its minimum, so the place is known to the root of the rounding.
        assert!((found.n.0 / n.0 - 1.).abs() < 1e-6, "1e{exponent}: {} {}", found.n.0, n.0);
        assert!((found.d.0 / d.0 - 1.).abs() < 1e-6);
    }
}

#[test]
fn a_law_without_use_for_tokens_is_not_identified() {
    let theta = internal(&Chinchilla::new(), &[482., 1e-19, 1.8, 0.35, 0.37]);
    let error = optimal_allocation(&Chinchilla::new(), &theta, Flops(1e18), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the compute-optimal size is not identified: the law prefers the fewest tokens at any cost"
    );
}

#[test]
fn compute_for_the_loss_of_a_budget_is_that_budget() {
    let (law, theta) = (Chinchilla::new(), epoch());
    let best = optimal_allocation(&law, &theta, Flops(3e21), &[]).unwrap();
    let back = compute_for_loss(&law, &theta, best.loss, &[]).unwrap();
    assert!((back.flops.0 / 3e21 - 1.).abs() < 1e-6);
    assert!(compute_for_loss(&law, &theta, 1.8, &[]).is_err(), "below the floor");
    let wasted = wasted_compute(&law, &theta, Flops(3e21), 0.02, &[]).unwrap();
    assert!((0.1..0.6).contains(&wasted), "{wasted}");
    assert!(wasted_compute(&law, &theta, Flops(3e21), 0., &[]).unwrap() < 1e-6);
}

#[test]
fn derivatives_of_the_optimum_are_those_of_the_closed_form() {
    let (law, theta, flops) = (Chinchilla::new(), epoch(), Flops(5.76e23));
    let searched = [optimal_params(&law, flops, &[]), optimal_loss(&law, flops, &[])];
    let closed = [
        Quantity::optimal_params(flops),
        Quantity::new("loss", Scale::Log, |theta: &[f64]| {
            let (n, d) = Chinchilla::frontier(theta).at(flops);
            predict(&Chinchilla::new(), theta, &[("n", n.0), ("d", d.0)]).unwrap().ln()
        }),
    ];
    for (searched, closed) in searched.iter().zip(&closed) {
        assert!((searched.value(&theta) - closed.value(&theta)).abs() < 1e-9);
        for (a, b) in searched.gradient(&theta).iter().zip(closed.gradient(&theta)) {
            // Central differences of the closed form, with steps of 1e-4.
            assert!((a - b).abs() < 1e-6 * (1. + b.abs()), "{}: {a} {b}", searched.name());
        }
    }
}

#[test]
fn profiles_of_what_a_search_finds_are_those_of_the_closed_form() {
    let law = Chinchilla::new();
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/scaling/chinchilla_epoch245.csv");
    let table = crate::Table::read_csv(path.as_ref()).unwrap();
    let runs = table.observations("loss", &[("n", "N"), ("d", "D")]).unwrap();
    let config = crate::FitConfig {
        outliers: crate::OutlierRule::DropHighest(5),
        ..crate::FitConfig::default()
    };
    let fit = crate::fit(&law, &runs, &config).unwrap();
    let flops = Flops(5.76e23);
    let of = |quantity: Quantity| {
        crate::profile(&law, &runs, &config, &fit, &quantity, 0.95).unwrap().interval
    };
    let (searched, closed) =
        (of(optimal_params(&law, flops, &[])), of(Quantity::optimal_params(flops)));
    assert!((searched.low / closed.low - 1.).abs() < 1e-5, "{searched:?} {closed:?}");
    assert!((searched.high / closed.high - 1.).abs() < 1e-5, "{searched:?} {closed:?}");
}

#[test]
fn budgets_are_equal_factors_apart() {
    let budgets = budgets(Flops(1e18), Flops(1e20), 3);
    assert!((budgets[1].0 / 1e19 - 1.).abs() < 1e-12);
    assert!((budgets[2].0 / 1e20 - 1.).abs() < 1e-12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_optimum_spends_the_budget_and_beats_its_neighbours(
        ln_c in 30_f64..60., alpha in 0.15_f64..0.6, beta in 0.15_f64..0.6, factor in 1.01_f64..3.,
    ) {
        let law = Chinchilla::new();
        let theta = internal(&law, &[400., 900., 1.7, alpha, beta]);
        let flops = Flops(ln_c.exp());
        let Ok(best) = optimal_allocation(&law, &theta, flops, &[]) else { return Ok(()) };
        prop_assert!((Flops::of_training(best.n, best.d).0 / flops.0 - 1.).abs() < 1e-12);
        for n in [best.n.0 * factor, best.n.0 / factor] {
            let loss = predict(&law, &theta, &[("n", n), ("d", flops.0 / 6. / n)]).unwrap();
            prop_assert!(loss >= best.loss);
        }
    }

    #[test]
    fn more_compute_never_hurts(ln_c in 30_f64..55., by in 1.1_f64..30.) {
        let law = Kaplan;
        let theta = internal(&law, &[6.4e13, 1.8e13, 0.076, 0.103]);
        let at = |c: f64| optimal_allocation(&law, &theta, Flops(c), &[]);
        if let (Ok(small), Ok(large)) = (at(ln_c.exp()), at(by * ln_c.exp())) {
            prop_assert!(large.loss <= small.loss * (1. + 1e-12));
        }
    }
}
