use proptest::prelude::*;

use super::*;
use crate::interval::quantile;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equal_weights_give_the_plain_quantile(
        mut values in proptest::collection::vec(-3.0..3.0_f64, 1..20), weight in 1e-3..1e6_f64, q in 0.0..1.0_f64,
    ) {
        values.sort_by(f64::total_cmp);
        let weighted: Vec<(f64, f64)> = values.iter().map(|&value| (value, weight)).collect();
        // Positions are sums of up to 20 weights, rounded.
        prop_assert!((weighted_quantile(&weighted, q) - quantile(&values, q)).abs() < 1e-11);
    }

    #[test]
    fn a_quantile_of_weighted_values_lies_among_them_and_rises(
        values in proptest::collection::vec((-3.0..3.0_f64, 0.01..9.0_f64), 1..20), q in 0.0..0.9_f64,
    ) {
        let mut sorted = values;
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (low, high) = (weighted_quantile(&sorted, q), weighted_quantile(&sorted, q + 0.1));
        prop_assert!(sorted[0].0 <= low && low <= high && high <= sorted[sorted.len() - 1].0);
    }
}

#[test]
fn a_large_weight_is_no_memory() {
    let (share, width) = centre(&[-1., 0., 1., 2.], &[1e15, 1., 1e15, 1e15]);
    assert!(share > 0. && width > 0.);
}
