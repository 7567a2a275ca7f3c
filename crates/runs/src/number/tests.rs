use proptest::prelude::*;

use super::{grouped, plus_minus, shortest, significant, typographic, with_range};

#[test]
fn significant_digits_follow_the_size() {
    let check = |value, digits, expected| assert_eq!(significant(value, digits), expected);
    check(2.71442, 3, "2.71");
    check(0.000_314_159, 3, "0.000314");
    check(0.000_031_415_9, 3, "3.14e-5");
    check(12_345.6, 3, "12346");
    check(9.9996, 4, "10.00");
    check(999_999.9, 3, "1.00e6");
    check(-0.5, 2, "-0.50");
    check(0.0, 5, "0");
    check(f64::NAN, 3, "NaN");
    check(f64::NEG_INFINITY, 3, "-∞");
}

#[test]
fn settings_are_not_padded() {
    assert_eq!(shortest(3e-4), "0.0003");
    assert_eq!(shortest(6e-5), "6e-5");
    assert_eq!(shortest(512.0), "512");
}

#[test]
fn the_uncertainty_decides_the_decimals() {
    assert_eq!(plus_minus(3.214_159, 0.0312), "3.214 ± 0.031");
    assert_eq!(plus_minus(-0.0004, 0.23), "0.00 ± 0.23");
    assert_eq!(plus_minus(1234.5, 31.2), "1234 ± 31");
    assert_eq!(plus_minus(3e9, 2e8), "3.00e9 ± 2.0e8");
    assert_eq!(with_range(3.21, 3.18, 3.245), "3.210 [3.180, 3.245]");
    assert_eq!(with_range(3.0, f64::NEG_INFINITY, 4.0), "3.00 [-∞, 4.00]");
}

#[test]
fn counts_are_grouped_from_ten_thousand() {
    assert_eq!(grouped(9999), "9999");
    assert_eq!(grouped(12_345_678), "12\u{202f}345\u{202f}678");
}

#[test]
fn signs_become_minus_but_exponents_stay() {
    assert_eq!(typographic("-3.0e-5 [-4, -2]"), "−3.0e-5 [−4, −2]");
    assert_eq!(typographic("run --set a=-1 from -∞"), "run --set a=-1 from −∞");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // Half a unit of the last of 6 digits is a relative error of at most 5e-6.
    #[test]
    fn six_digits_read_back_within_5e_6(value in proptest::num::f64::NORMAL) {
        let read: f64 = significant(value, 6).parse().unwrap();
        prop_assert!((read - value).abs() <= 5.001e-6 * value.abs());
    }

    #[test]
    fn the_shortest_text_reads_back_exactly(value in proptest::num::f64::NORMAL) {
        prop_assert_eq!(shortest(value).parse::<f64>().unwrap(), value);
    }
}
