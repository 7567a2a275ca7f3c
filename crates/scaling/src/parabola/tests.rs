use proptest::prelude::*;

use super::*;

fn sweep(best: f64, factor: f64, n: i32) -> (Vec<f64>, Vec<f64>) {
    let x: Vec<f64> = (0..n).map(|i| 1e-3 * factor.powi(i - n / 2)).collect();
    let loss = x.iter().map(|x| 2.5 + 0.03 * (x / best).ln().powi(2)).collect();
    (x, loss)
}

fn read(x: &[f64], loss: &[f64], config: ParabolaConfig) -> Optimum {
    parabola(x, loss, &config).unwrap()
}

#[test]
fn an_exact_parabola_gives_its_vertex() {
    let (x, loss) = sweep(1.3e-3, 2., 7);
    let optimum = read(&x, &loss, ParabolaConfig::default());
    let vertex = optimum.vertex().unwrap();
    assert!((vertex.x / 1.3e-3 - 1.).abs() < 1e-10);
    assert!((vertex.loss - 2.5).abs() < 1e-10 && (vertex.curvature - 0.03).abs() < 1e-10);
    assert!((vertex.r2 - 1.).abs() < 1e-10 && vertex.se_ln_x < 1e-6 && vertex.n_points == 7);
}

#[test]
fn an_optimum_beyond_the_values_tried_is_not_identified() {
    let (x, loss) = sweep(1e-1, 2., 7);
    let Optimum::NotIdentified(Reason::AtEdge { below, x: guess }, _) =
        read(&x, &loss, ParabolaConfig::default())
    else {
        panic!("the sweep ends below the optimum")
    };
    assert!(!below && (guess / 1e-1 - 1.).abs() < 1e-9);
}

#[test]
fn a_hill_has_no_best_value() {
    let (x, loss) = sweep(1e-3, 2., 7);
    let hill: Vec<f64> = loss.iter().map(|loss| 5. - loss).collect();
    let optimum = read(&x, &hill, ParabolaConfig::default());
    assert!(
        matches!(optimum, Optimum::NotIdentified(Reason::NotConvex { curvature }, _) if curvature < 0.)
    );
}

#[test]
fn diverged_and_missing_losses_are_left_out_and_counted() {
    let (mut x, mut loss) = sweep(1e-3, 2., 7);
    x.extend([0.1, 0.2, 0.3]);
    loss.extend([f64::NAN, 34_467.6, f64::INFINITY]);
    let optimum = read(&x, &loss, ParabolaConfig::default());
    let vertex = optimum.vertex().unwrap();
    assert_eq!((vertex.n_points, vertex.n_diverged), (7, 3));
    assert!((vertex.x / 1e-3 - 1.).abs() < 1e-9);
}

#[test]
fn two_distinct_values_are_too_few_however_often_they_were_run() {
    let optimum = read(&[1e-3, 2e-3, 1e-3, 2e-3], &[2., 2.1, 2.2, 2.], ParabolaConfig::default());
    assert_eq!(optimum, Optimum::NotIdentified(Reason::TooFewPoints { n: 2 }, None));
}

#[test]
fn windows_choose_points_around_the_lowest() {
    let (x, loss) = sweep(1e-3, 2., 9);
    for (window, want) in [(Window::Around(2), 5), (Window::Within(0.02), 3), (Window::All, 9)] {
        let config = ParabolaConfig { window, ..ParabolaConfig::default() };
        assert_eq!(read(&x, &loss, config).vertex().unwrap().n_points, want, "{window:?}");
    }
}

#[test]
fn noise_without_shape_can_be_refused_by_its_explained_share() {
    let x: Vec<f64> = (0..9).map(|i| 1e-3 * 2_f64.powi(i)).collect();
    let loss = [2.02, 2., 2.03, 1.99, 2.01, 2., 2.02, 1.99, 2.03];
    let config = ParabolaConfig { min_r2: 0.9, ..ParabolaConfig::default() };
    assert!(matches!(
        read(&x, &loss, config),
        Optimum::NotIdentified(Reason::PoorFit { .. }, Some(_))
    ));
}

#[test]
fn a_value_that_has_no_logarithm_is_named() {
    let error = parabola(&[1e-3, 0., 2e-3], &[1., 2., 3.], &ParabolaConfig::default()).unwrap_err();
    assert_eq!(error.to_string(), "row 2, column `x`: must be positive, got 0");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_vertex_does_not_depend_on_the_unit(
        unit in -12.0..12.0_f64, noise in proptest::collection::vec(-0.003..0.003_f64, 7),
    ) {
        let (x, mut loss) = sweep(1.3e-3, 2., 7);
        loss.iter_mut().zip(&noise).for_each(|(loss, noise)| *loss += noise);
        let scaled: Vec<f64> = x.iter().map(|x| x * unit.exp()).collect();
        let config = ParabolaConfig::default();
        let here = read(&x, &loss, config);
        let there = read(&scaled, &loss, config);
        let (here, there) = (here.parabola().unwrap(), there.parabola().unwrap());
        // Logarithms of the scaled values are rounded anew.
        prop_assert!((there.ln_x - here.ln_x - unit).abs() < 1e-9);
        prop_assert!((there.se_ln_x / here.se_ln_x - 1.).abs() < 1e-8);
        prop_assert!((there.loss - here.loss).abs() < 1e-11);
    }
}
