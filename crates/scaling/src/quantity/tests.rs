use super::*;
use crate::law::internal;

fn theta() -> Vec<f64> {
    internal(&Chinchilla::new(), &[477.8, 2143., 1.817, 0.347, 0.367])
}

#[test]
fn the_optimum_spends_the_budget_and_beats_its_neighbours() {
    let (law, theta) = (Chinchilla::new(), theta());
    for budget in [1e18, 5.76e23] {
        let n = Quantity::optimal_params(Flops(budget)).natural(&theta);
        let d = Quantity::optimal_tokens(Flops(budget)).natural(&theta);
        assert!((6. * n * d / budget - 1.).abs() < 1e-12);
        let loss = |n: f64| {
            let d = budget / 6. / n;
            Quantity::prediction(&law, &[("n", n), ("d", d)]).unwrap().natural(&theta)
        };
        assert!(loss(n) < loss(1.01 * n) && loss(n) < loss(0.99 * n));
    }
}

#[test]
fn gradients_agree_with_what_is_known() {
    let theta = theta();
    let a = Quantity::frontier_exponent();
    let (alpha, beta) = (theta[3], theta[4]);
    let gradient = a.gradient(&theta);
    let square = (alpha + beta).powi(2);
    for (got, want) in gradient.iter().zip([0., 0., 0., -beta / square, alpha / square]) {
        assert!((got - want).abs() < 1e-8);
    }
    let hessian = a.hessian(&theta);
    assert!((hessian[4 * 5 + 4] + 2. * alpha / (alpha + beta).powi(3)).abs() < 1e-4);
}

#[test]
fn an_unknown_parameter_lists_the_known() {
    let error = Quantity::parameter(&Chinchilla::new(), "gamma").unwrap_err();
    assert_eq!(error.to_string(), "parameter must be one of A, B, E, alpha, beta, got gamma");
}
