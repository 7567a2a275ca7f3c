use super::*;

fn worst(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    pairs.map(|(a, b)| ((a - b) / b).abs()).fold(0., f64::max)
}

#[test]
fn exponentials_and_logarithms_agree_with_the_library_to_a_few_last_places() {
    let x: Vec<f64> = (-60_000..60_000).map(|i| f64::from(i) * 0.011_37).collect();
    let mut y = x.clone();
    exp_all(&mut y);
    let error = worst(x.iter().zip(&y).map(|(x, y)| (*y, x.exp())));
    assert!(error < 1e-15, "{error:e}");
    let mut back = vec![0.; y.len()];
    ln_all(&y, &mut back);
    for (y, back) in y.iter().zip(&back) {
        assert!((back - y.ln()).abs() <= 4e-16 * y.ln().abs().max(1.), "{y:e}");
    }
}

#[test]
fn exponentials_saturate_instead_of_overflowing() {
    let mut values = [-1e9, 1e9, f64::NEG_INFINITY];
    exp_all(&mut values);
    assert!(values.iter().all(|value| value.is_finite() && *value > 0.));
}

#[test]
fn a_line_goes_through_the_exponential() {
    let x: Vec<f64> = (0..37).map(|i| 0.3 * f64::from(i) - 5.).collect();
    let mut out = vec![0.; x.len()];
    exp_linear(0.7, -0.4, &x, &mut out);
    assert!(worst(x.iter().zip(&out).map(|(x, y)| (*y, (0.7 - 0.4 * x).exp()))) < 1e-14);
}

#[test]
fn sums_of_any_length_agree_with_the_obvious_loop() {
    for n in 0..40 {
        let a: Vec<f64> = (0..n).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let b: Vec<f64> = (0..n).map(|i| (f64::from(i) * 1.3).cos()).collect();
        let two: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        let three: f64 = a.iter().zip(&b).map(|(a, b)| a * b * b).sum();
        assert!((dot(&a, &b) - two).abs() < 1e-13, "{n}");
        assert!((dot3(&a, &b, &b) - three).abs() < 1e-13, "{n}");
        let c: Vec<f64> = b.iter().map(|b| b * b).collect();
        let squares: f64 = a.iter().map(|a| a * a).sum();
        let four = dot4(&a, [&b, &c, &a, &b]);
        for (got, want) in four.into_iter().zip([two, three, squares, two]) {
            assert!((got - want).abs() < 1e-13, "{n}");
        }
    }
}

#[test]
fn hubers_loss_and_its_derivatives_agree_with_their_definition() {
    let delta = 0.5;
    for n in [1_usize, 3, 4, 9] {
        let r: Vec<f64> = (0..n).map(|i| 0.31 * i as f64 - 1.).collect();
        let w: Vec<f64> = (0..n).map(|i| 1. + i as f64).collect();
        let (mut slope, mut curvature) = (vec![0.; n], vec![0.; n]);
        let rule = Robust { delta, blend: 0.25 };
        let value = robust(rule, &r, &w, &mut slope, &mut curvature);
        let loss =
            |r: f64| if r.abs() <= delta { 0.5 * r * r } else { delta * (r.abs() - 0.5 * delta) };
        let expected: f64 = r.iter().zip(&w).map(|(r, w)| w * loss(*r)).sum();
        assert!(
            (value - expected).abs() < 1e-14
                && (robust_value(delta, &r, &w) - expected).abs() < 1e-14
        );
        for i in 0..n {
            assert!((slope[i] - w[i] * r[i].clamp(-delta, delta)).abs() < 1e-15);
            let outside = 0.25 * w[i] * delta / r[i].abs();
            let want = if r[i].abs() <= delta { w[i] } else { outside };
            assert!((curvature[i] - want).abs() < 1e-14);
        }
    }
}
