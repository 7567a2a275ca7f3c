use proptest::prelude::*;

use super::{Domain, Place, is_drawable};
use crate::plot::{Axis, Scale};

fn labels(axis: &Axis, low: f64, high: f64, want: usize) -> Vec<String> {
    let domain = Domain::new(axis, [low, high], want);
    domain.ticks.major.into_iter().map(|tick| tick.1).collect()
}

fn check(axis: &Axis, low: f64, high: f64, expected: &[&str]) {
    assert_eq!(labels(axis, low, high, 5), expected, "{low} to {high}");
}

#[test]
fn linear_ticks_are_round() {
    let axis = Axis::new("loss", "nats");
    check(&axis, 2.13, 5.2, &["2", "3", "4", "5", "6"]);
    check(&axis, 0.0, 1.0, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    check(&axis, -0.31, 0.1, &["−0.4", "−0.3", "−0.2", "−0.1", "0", "0.1"]);
    check(&axis, 0.0, 20_000.0, &["0", "5k", "10k", "15k", "20k"]);
    check(&axis, 1.2e9, 2.6e9, &["1.0B", "1.5B", "2.0B", "2.5B", "3.0B"]);
    check(&axis, 0.0, 2.1e-4, &["0", "5e-5", "1.0e-4", "1.5e-4", "2.0e-4", "2.5e-4"]);
}

#[test]
fn logarithmic_ticks_are_powers_or_round_mantissas() {
    check(&Axis::log10("perplexity", ""), 1.0, 1e4, &["1", "10", "100", "1000", "10k"]);
    check(
        &Axis::log10("perplexity", ""),
        9.0,
        260.0,
        &["5", "10", "20", "50", "100", "200", "500"],
    );
    check(
        &Axis::log10("rate", ""),
        1e-5,
        1e-2,
        &["1e-5", "3e-5", "1e-4", "3e-4", "1e-3", "3e-3", "1e-2"],
    );
    check(&Axis::log2("length", "tokens"), 128.0, 2048.0, &["128", "256", "512", "1024", "2048"]);
    check(&Axis::log2("length", ""), 1024.0, 2e6, &["2¹⁰", "2¹³", "2¹⁶", "2¹⁹", "2²²"]);
}

#[test]
fn fixed_ends_stay() {
    let axis = Axis { min: Some(0.5), max: Some(4.2), ..Axis::new("loss", "nats") };
    let domain = Domain::new(&axis, [0.1, 2.0, 50.0], 5);
    assert_eq!(domain.place(0.5), Place::Inside(0.0));
    assert_eq!(domain.place(4.2), Place::Inside(1.0));
    assert_eq!(domain.place(0.1), Place::Below);
    assert_eq!(domain.place(50.0), Place::Above);
    assert_eq!(domain.place(f64::NAN), Place::Diverged);
    assert_eq!(domain.place(f64::NEG_INFINITY), Place::DivergedDown);
    let ticks: Vec<&str> = domain.ticks.major.iter().map(|tick| tick.1.as_str()).collect();
    assert_eq!(ticks, ["1", "2", "3", "4"]);
}

#[test]
fn zero_has_no_place_on_a_logarithmic_axis() {
    let domain = Domain::new(&Axis::log10("x", ""), [0.0, -3.0, 1.0, 100.0], 5);
    assert_eq!(domain.place(0.0), Place::Below);
    assert!(matches!(domain.place(1.0), Place::Inside(_)));
}

#[test]
fn a_line_leaves_the_axis_where_it_crosses_its_end() {
    let axis = Axis { min: Some(0.0), max: Some(10.0), ..Axis::default() };
    let domain = Domain::new(&axis, [], 5);
    assert_eq!(domain.exit(5.0, 15.0), Some((1.0, 0.5)));
    assert_eq!(domain.exit(5.0, -15.0), Some((0.0, 0.25)));
}

fn any_axis() -> impl Strategy<Value = Axis> {
    prop_oneof![Just(Axis::default()), Just(Axis::log10("", "")), Just(Axis::log2("", ""))]
}

/// Values of every size, and close to each other.
fn any_values() -> impl Strategy<Value = Vec<f64>> {
    let near =
        (any::<f64>(), 0..12, 1..20_usize).prop_map(|(base, power, n): (f64, i32, usize)| {
            (0..n).map(|i| base * (1.0 + i as f64 * 10_f64.powi(-power))).collect()
        });
    let usual = proptest::collection::vec(-1e4..1e4, 1..20);
    let positive = proptest::collection::vec((-9.0..9.0).prop_map(|p| 10_f64.powf(p)), 1..20);
    prop_oneof![near, usual, positive, proptest::collection::vec(any::<f64>(), 1..20)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn ticks_cover_the_values_and_are_few(axis in any_axis(), values in any_values(), want in 2..10_usize) {
        let domain = Domain::new(&axis, values.iter().copied(), want);
        let ticks: Vec<f64> = domain.ticks.major.iter().map(|tick| tick.0).collect();
        prop_assert!((2..=want.max(2) + 3).contains(&ticks.len()), "{ticks:?}");
        prop_assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{ticks:?}");
        let usable = || values.iter().copied().filter(|v| is_drawable(axis.scale, *v));
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        // A millionth of a step is no reason for another tick.
        let slack = match axis.scale {
            Scale::Linear => 2e-6 * (high - low),
            Scale::Log10 | Scale::Log2 => 2e-6 * high,
        };
        prop_assert!(usable().all(|v| low - slack <= v && v <= high + slack), "{ticks:?} {values:?}");
        for (value, _) in &domain.ticks.major {
            prop_assert!(matches!(domain.place(*value), Place::Inside(_)));
        }
    }

    #[test]
    fn labels_of_an_axis_differ(axis in any_axis(), values in any_values(), want in 2..10_usize) {
        let domain = Domain::new(&axis, values, want);
        let mut labels: Vec<&String> = domain.ticks.major.iter().map(|tick| &tick.1).collect();
        labels.sort();
        let n = labels.len();
        labels.dedup();
        prop_assert_eq!(labels.len(), n, "{:?}", domain.ticks.major);
    }

    #[test]
    fn every_drawable_value_is_inside_and_in_order(axis in any_axis(), mut values in any_values()) {
        let domain = Domain::new(&axis, values.iter().copied(), 5);
        values.retain(|value| is_drawable(axis.scale, *value));
        values.sort_by(f64::total_cmp);
        let mut before = 0.0;
        for value in values {
            let Place::Inside(fraction) = domain.place(value) else {
                return Err(TestCaseError::fail(format!("{value} has no place")));
            };
            prop_assert!((before..=1.0).contains(&fraction));
            before = fraction;
        }
    }
}
