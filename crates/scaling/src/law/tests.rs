use proptest::prelude::*;

use super::*;
use crate::units::CountUnit;

/// Every law, with natural parameters in the middle of what it is used for.
fn laws() -> Vec<(Box<dyn Law>, Vec<f64>)> {
    let two = [480., 2100., 1.8, 0.35, 0.37];
    let with = |more: &[f64]| two.iter().chain(more).copied().collect::<Vec<f64>>();
    vec![
        (Box::new(Chinchilla::new()), two.to_vec()),
        (Box::new(Kaplan), vec![6.4e13, 1.8e13, 0.076, 0.103]),
        (Box::new(DataConstrained::default()), with(&[5.3, 15.4])),
        (Box::new(Family::new("x")), with(&[0.1])),
        (Box::new(Family::new("x").with_offset()), with(&[0.1, 1e-3])),
        (Box::new(Family::new("x").with_cross_terms(&["q"])), with(&[0.1, 0.03])),
        (Box::new(Family::at_one_scale("x").with_offset()), vec![3.6, 0.06, 1e-3]),
        (Box::new(Mixing::new(&["p", "q"])), vec![1.9, 0.3, -1.2]),
        (Box::new(PowerLaw::with_floor("n")), vec![480., 0.35, 1.8]),
        (Box::new(PowerLaw::pure("n")), vec![480., 0.35]),
        (
            Box::new(
                LrHorizon::of_size_and_tokens(CountUnit::Billions).with_batch().with_curvature(),
            ),
            vec![1.55e-3, 0.23, 0.32, 0.3, 0.01],
        ),
    ]
}

/// A few runs that have every input; some tokens are seen more than once.
fn runs() -> Observations {
    let (mut n, mut d) = (vec![], vec![]);
    for params in [5e7, 4e8, 7e9] {
        for tokens in [1e9, 3e10, 4e11] {
            n.push(params);
            d.push(tokens);
        }
    }
    let share = |i: usize| [0.5, 0.2, 0.3][i % 3];
    let points = n.len();
    Observations::new("loss", vec![2.; points])
        .with_input("p", (0..points).map(share).collect())
        .with_input("q", (0..points).map(|i| 1. - share(i)).collect())
        .with_input("u", d.iter().map(|d| 0.11 * d).collect())
        .with_input("batch", (0..points).map(|i| 64. * (1 + i % 4) as f64).collect())
        .with_input("n", n)
        .with_input("d", d)
}

struct Values {
    log: Vec<f64>,
    jacobian: Vec<f64>,
}

fn evaluate(law: &dyn Law, design: &Design, theta: &[f64]) -> Values {
    let n = design.n_points;
    let mut scratch = vec![0.; law.n_scratch() * n];
    let (mut log, mut jacobian) = (vec![0.; n], vec![0.; theta.len() * n]);
    law.log_predict(theta, design, &mut scratch, &mut log);
    law.log_gradient(theta, design, &scratch, &log, &mut jacobian);
    Values { log, jacobian }
}

/// Central differences of `of` by each parameter.
fn differences(theta: &[f64], of: impl Fn(&[f64]) -> Vec<f64>) -> Vec<Vec<f64>> {
    let step = 1e-5;
    let moved = |i: usize, by: f64| {
        let mut theta = theta.to_vec();
        theta[i] += by;
        of(&theta)
    };
    let difference = |i: usize| {
        let pairs = moved(i, step).into_iter().zip(moved(i, -step));
        pairs.map(|(above, below)| (above - below) / (2. * step)).collect()
    };
    (0..theta.len()).map(difference).collect()
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (law, natural) in laws() {
        let law = law.as_ref();
        let design = Design::new(law, &runs()).unwrap();
        let theta = internal(law, &natural);
        let values = evaluate(law, &design, &theta);
        let numeric = differences(&theta, |theta| evaluate(law, &design, theta).log);
        for (own, numeric) in values.jacobian.chunks(design.n_points).zip(&numeric) {
            for (a, b) in own.iter().zip(numeric) {
                // The differences' own error: step² and rounding over step.
                assert!((a - b).abs() < 1e-8 * (1. + b.abs()), "{}: {a} {b}", law.name());
            }
        }
    }
}

#[test]
fn second_derivatives_agree_with_finite_differences_of_gradients() {
    for (law, natural) in laws() {
        let law = law.as_ref();
        let design = Design::new(law, &runs()).unwrap();
        let theta = internal(law, &natural);
        let (n, p) = (design.n_points, theta.len());
        let values = evaluate(law, &design, &theta);
        let c: Vec<f64> = (0..n).map(|i| (i as f64 * 1.7).sin()).collect();
        let mut hessian = vec![0.; p * p];
        if !law.add_curvature(&design, &values.jacobian, &c, &mut hessian) {
            continue;
        }
        let numeric = differences(&theta, |theta| evaluate(law, &design, theta).jacobian);
        for i in 0..p {
            for j in 0..=i {
                let of_log = |k: usize| numeric[i][j * n + k];
                let product = |k: usize| values.jacobian[i * n + k] * values.jacobian[j * n + k];
                let want: f64 = (0..n).map(|k| c[k] * (of_log(k) + product(k))).sum();
                let got = hessian[i * p + j];
                assert!(
                    (got - want).abs() < 1e-6 * (1. + want.abs()),
                    "{}: {got} {want}",
                    law.name()
                );
            }
        }
    }
}

#[test]
fn laws_agree_with_their_formulas() {
    let point = [("n", 4e8), ("d", 3e10), ("p", 0.3), ("q", 0.7), ("batch", 128.)];
    let check = |law: &dyn Law, natural: &[f64], want: f64| {
        let got = predict(law, &internal(law, natural), &point).unwrap();
        assert!((got / want - 1.).abs() < 1e-12, "{}: {got} {want}", law.name());
    };
    let chinchilla = 1.8 + 480. * 4e8_f64.powf(-0.35) + 2100. * 3e10_f64.powf(-0.37);
    let two = [480., 2100., 1.8, 0.35, 0.37];
    check(&Chinchilla::new(), &two, chinchilla);
    let family: Vec<f64> = two.into_iter().chain([0.1]).collect();
    check(&Family::new("x"), &family, chinchilla * 0.3_f64.powf(-0.1));
    let offset: Vec<f64> = two.into_iter().chain([0.1, 0.01]).collect();
    check(&Family::new("x").with_offset(), &offset, chinchilla * 0.31_f64.powf(-0.1));
    let cross: Vec<f64> = two.into_iter().chain([0.1, 0.03]).collect();
    let factor = 0.3_f64.powf(-0.1) * (-0.03 * 0.7_f64).exp();
    check(&Family::new("x").with_cross_terms(&["q"]), &cross, chinchilla * factor);
    let kaplan = ((6.4e13 / 4e8_f64).powf(0.076 / 0.103) + 1.8e13 / 3e10).powf(0.103);
    check(&Kaplan, &[6.4e13, 1.8e13, 0.076, 0.103], kaplan);
    check(&Mixing::new(&["p", "q"]), &[1.9, 0.3, -1.2], 1.9 + (0.09 - 0.84_f64).exp());
    check(&PowerLaw::with_floor("n"), &[480., 0.35, 1.8], 1.8 + 480. * 4e8_f64.powf(-0.35));
    let horizon = LrHorizon::of_size_and_tokens(CountUnit::Billions).with_batch().with_curvature();
    let ln_d = 30_f64.ln();
    let lr = 1.55e-3
        * 0.4_f64.powf(-0.23)
        * 30_f64.powf(-0.32)
        * 128_f64.powf(0.3)
        * (-0.01 * ln_d * ln_d).exp();
    check(&horizon, &[1.55e-3, 0.23, 0.32, 0.3, 0.01], lr);
}

#[test]
fn the_learning_rate_laws_constant_follows_its_unit() {
    let law = LrHorizon::of_size_and_tokens(CountUnit::Billions);
    let theta = internal(&law, &[1.55e-3, 0.23, 0.32]);
    let raw = law.constant_in(&theta, CountUnit::Raw);
    assert!((raw / 138.1 - 1.).abs() < 1e-3, "{raw}");
    let lr = predict(&law, &theta, &[("n", 7e9), ("d", 1e12)]).unwrap();
    assert!((lr - 1.086e-4).abs() < 1e-7, "7 billion parameters, a trillion tokens: {lr}");
    let other = LrHorizon::of_size_and_tokens(CountUnit::Raw);
    let same = predict(&other, &internal(&other, &[raw, 0.23, 0.32]), &[("n", 7e9), ("d", 1e12)]);
    assert!((same.unwrap() / lr - 1.).abs() < 1e-12);
}

#[test]
fn without_repetition_the_data_constrained_law_is_the_plain_one() {
    // Enough unique tokens that neither parameters nor tokens are in excess.
    let natural = [480., 2100., 1.8, 0.35, 0.37, 5.3, 15.4];
    let (constrained, plain) = (DataConstrained::default(), Chinchilla::new());
    let point = [("n", 1e8), ("d", 1e11), ("u", 1e11)];
    let seen = predict(&constrained, &internal(&constrained, &natural), &point).unwrap();
    let once = predict(&plain, &internal(&plain, &natural[..5]), &point).unwrap();
    assert!((seen / once - 1.).abs() < 1e-13);
    // Many epochs bring no more than (1 + R_D) times the unique tokens.
    let point = [("n", 1e8), ("d", 1e16), ("u", 1e11)];
    let many = predict(&constrained, &internal(&constrained, &natural), &point).unwrap();
    let limit = predict(&plain, &internal(&plain, &natural[..5]), &[("n", 1e8), ("d", 16.4e11)]);
    assert!((many / limit.unwrap() - 1.).abs() < 1e-12);
}

#[test]
fn a_huge_limit_of_repetition_keeps_its_digits() {
    let law = DataConstrained::default();
    let at = |limit: f64| {
        let theta = internal(&law, &[480., 2100., 1.8, 0.35, 0.37, limit, limit]);
        predict(&law, &theta, &[("n", 1e8), ("d", 1e11), ("u", 1e10)]).unwrap()
    };
    // As the limit grows, repeated tokens become as good as new ones, smoothly.
    assert!((at(9e5) - at(8e5)).abs() < 1e-7 && at(9e5) < at(8e5));
}

#[test]
fn inputs_outside_their_domain_are_named() {
    let check = |law: &dyn Law, runs: Observations, want: &str| {
        assert_eq!(Design::new(law, &runs).unwrap_err().to_string(), want);
    };
    let runs = || Observations::new("loss", vec![2.; 2]).with_rows(vec![11, 12]);
    let want = "column `n`: `chinchilla` needs this input and there is none";
    check(&Chinchilla::new(), runs(), want);
    let zero = runs().with_input("n", vec![1., 0.]).with_input("d", vec![1., 1.]);
    check(&Chinchilla::new(), zero, "row 12, column `n`: must be positive, got 0");
    let absent = runs().with_input("p", vec![0.5, 0.]);
    check(
        &Family::at_one_scale("x"),
        absent.clone(),
        "row 12, column `p`: must be positive, got 0",
    );
    assert!(Design::new(&Family::at_one_scale("x").with_offset(), &absent).is_ok());
    let beyond = runs().with_input("p", vec![0.5, 1.5]);
    let want = "row 12, column `p`: must lie between 0 and 1, got 1.5";
    check(&Family::at_one_scale("x").with_offset(), beyond, want);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn loss_falls_with_size_and_horizon_and_stays_above_its_floor(
        a in 1.0..2000.0_f64, b in 1.0..9000.0_f64, e in 0.1..3.0_f64,
        alpha in 0.05..0.9_f64, beta in 0.05..0.9_f64,
        n in 1e6..1e11_f64, d in 1e8..1e13_f64, more in 1.1..50.0_f64,
    ) {
        let law = Chinchilla::new();
        let theta = internal(&law, &[a, b, e, alpha, beta]);
        let loss = |n: f64, d: f64| predict(&law, &theta, &[("n", n), ("d", d)]).unwrap();
        // Terms below 1e-16 of the floor vanish in rounding, hence not strictly.
        prop_assert!(loss(more * n, d) <= loss(n, d) && loss(n, more * d) <= loss(n, d));
        prop_assert!(loss(n, d) >= e * (1. - 1e-14));
    }

    #[test]
    fn the_frontier_spends_the_budget_and_beats_its_neighbours(
        a in 10.0..2000.0_f64, b in 10.0..9000.0_f64,
        alpha in 0.1..0.9_f64, beta in 0.1..0.9_f64, ln_budget in 38.0..60.0_f64,
    ) {
        let law = Chinchilla::new();
        let theta = internal(&law, &[a, b, 1e-3, alpha, beta]);
        let flops = crate::units::Flops(ln_budget.exp());
        let (n, d) = Chinchilla::frontier(&theta).at(flops);
        prop_assert!((crate::units::Flops::of_training(n, d).0 / flops.0 - 1.).abs() < 1e-10);
        let loss = |n: f64| predict(&law, &theta, &[("n", n), ("d", flops.0 / 6. / n)]).unwrap();
        for factor in [0.5, 0.9, 1.1, 2.] {
            prop_assert!(loss(n.0) <= loss(factor * n.0) * (1. + 1e-12));
        }
    }
}
