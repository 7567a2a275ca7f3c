use super::*;

#[test]
fn the_median_lies_in_the_middle_whatever_the_order() {
    let check = |values: &[f64], median: f64, min: f64, max: f64| {
        let spread = Spread::of(values.iter().copied());
        assert_eq!(spread, Some(Spread { median, min, max }), "{values:?}");
    };
    check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
    check(&[4.0, 1.0, 3.0, 2.0], 2.5, 1.0, 4.0);
    check(&[7.0], 7.0, 7.0, 7.0);
    assert_eq!(Spread::of([]), None);
    assert_eq!(Spread::of([1.0, f64::NAN]), None);
}

#[test]
fn a_round_in_which_the_machine_was_slow_does_not_change_the_ratio() {
    let ours = [200.0, 20.0, 210.0];
    let theirs = [100.0, 10.0, 100.0];
    let spread = Spread::of_ratios(&ours, &theirs).unwrap();
    assert_eq!(spread, Spread { median: 2.0, min: 2.0, max: 2.1 });
    assert_eq!(spread.to_string(), "2.00 (2.00 to 2.10)");
    assert_eq!(Spread::of_ratios(&ours, &theirs[..2]), None);
}
