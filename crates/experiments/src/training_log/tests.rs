use super::*;

#[test]
fn a_thinned_curve_keeps_its_mean_and_its_end() {
    let points: Vec<(f64, f64)> =
        (1..=1000).map(|step| (f64::from(step), f64::from(step % 7))).collect();
    let thinned = thin(&points);
    assert!(thinned.len() <= CURVE_POINTS);
    assert_eq!(thinned.last().unwrap().0, 1000.0);
    let mean = |points: &[(f64, f64)]| {
        points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64
    };
    assert!((mean(&thinned) - mean(&points)).abs() < 0.05); // the runs are equal but for the last
}

#[test]
fn a_short_curve_is_kept_as_it_is() {
    assert_eq!(thin(&[(1.0, 3.0), (2.0, 2.5)]), [(1.0, 3.0), (2.0, 2.5)]);
    assert_eq!(thin(&[]), []);
}

#[test]
fn what_is_not_finite_is_null() {
    assert_eq!(series("loss", vec![(1.0, f64::NAN), (2.0, 1.0)]).y, [None, Some(1.0)]);
}
