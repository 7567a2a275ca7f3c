use super::*;

#[test]
fn quantiles_interpolate() {
    let values = [1., 2., 4., 8.];
    for (q, want) in [(0., 1.), (1., 8.), (0.5, 3.), (0.25, 1.75)] {
        assert!((quantile(&values, q) - want).abs() < 1e-15, "{q}");
    }
    assert!(quantile(&[], 0.5).is_nan());
}

#[test]
fn a_percentile_interval_leaves_equal_tails() {
    let values: Vec<f64> = (0..=1000).rev().map(f64::from).collect();
    let interval = percentile_interval(&values, 0.95);
    assert!((interval.low - 25.).abs() < 1e-9 && (interval.high - 975.).abs() < 1e-9);
    assert!(interval.contains(25.5) && !interval.contains(980.) && interval.is_finite());
    assert!((interval.width() - 950.).abs() < 1e-9);
}

#[test]
fn one_wild_value_shows_as_a_heavy_tail() {
    let mut values: Vec<f64> =
        (1..1000).map(|i| crate::distribution::normal_quantile(f64::from(i) / 1000.)).collect();
    assert!((tail_weight(&values) - 1.).abs() < 0.02);
    values[0] = 500.;
    assert!(tail_weight(&values) > 5.);
}

#[test]
fn an_expanded_interval_of_normal_draws_is_students() {
    let draws: Vec<f64> =
        (1..40_000).map(|i| crate::distribution::normal_quantile(f64::from(i) / 40_000.)).collect();
    let interval = expanded_interval(&draws, 0.95, 20., (25_f64 / 20.).sqrt());
    // Student's quantile of 20 degrees of freedom is 2.0860.
    assert!((interval.high - 2.085_963 * (25_f64 / 20.).sqrt()).abs() < 5e-3, "{interval:?}");
    assert!((interval.low + interval.high).abs() < 1e-3);
    let plain = expanded_interval(&draws, 0.95, 1e6, 1.);
    assert!((plain.high - 1.959_964).abs() < 1e-3);
}
