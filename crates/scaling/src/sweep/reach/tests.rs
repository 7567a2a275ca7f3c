use super::*;

/// Parabolas of six cells at `rates` learning rates a step of 0.4 apart, with errors that differ from point to point, and a
/// cubic term that ends at `end` with a jump.
fn valleys(rates: i32, end: f64, seed: i32) -> Vec<Valley> {
    let cell = |cell: i32| {
        let point = |i: i32| {
            let x = 0.4 * f64::from(i - rates / 2) + 0.03 * f64::from(cell - 3);
            let error = 1e-4
                * ((f64::from(1000 * seed + cell * 37 + i) * 12.9898).sin() * 43_758.545).fract();
            let third = if x.abs() < end { 0.002 * x.powi(3) } else { 0. };
            (x, 2. + 0.012 * x * x + third + error)
        };
        let points = (0..rates).map(point).collect();
        Valley { cell: cell as usize, centre: 0., points, n_diverged: 0 }
    };
    (0..6).map(cell).collect()
}

#[test]
fn the_error_of_a_slant_holds_what_a_narrower_window_differs_by() {
    let mut n_wider = 0;
    for seed in 0..20 {
        let found = shape(&valleys(9, f64::INFINITY, seed), &ParabolaConfig::default());
        let Shape::OneSlant { within, slant, .. } = found else { panic!("{found:?}") };
        let plain = within.joint.slant;
        assert!(slant.coefficient == plain.coefficient && slant.se >= plain.se, "{slant:?}");
        n_wider += usize::from(slant.se > plain.se);
    }
    // Of squares of normal numbers, a third is above 1.
    assert!((2..=12).contains(&n_wider), "{n_wider}");
    // Slants that differ by three standard deviations of that difference, and by one.
    let windows = |deviations: f64| {
        let mut windows = windows(&valleys(9, f64::INFINITY, 0));
        let outer = windows[0].joint;
        let variance = outer.residual / outer.slant.freedom;
        for k in COMPARED {
            let inner = &mut windows[k].joint;
            let sd = (variance * (1. / inner.size - 1. / outer.size)).sqrt();
            inner.slant.coefficient = outer.slant.coefficient + deviations * sd;
        }
        windows
    };
    let three = windows(3.);
    let [outer, inner] = [0, COMPARED[0]].map(|k| three[k].joint);
    let variance = outer.residual / outer.slant.freedom;
    let want = variance * (1. / outer.size + 8. * (1. / inner.size - 1. / outer.size));
    assert!((with_bias(&three, 0).se / want.sqrt() - 1.).abs() < 1e-12);
    assert_eq!(with_bias(&windows(0.999), 0).se, outer.slant.se);
}

#[test]
fn a_window_is_tested_with_the_freedom_of_the_widest_narrower_one() {
    let windows = windows(&valleys(9, f64::INFINITY, 0));
    let freedom = |k: usize| windows[k].joint.slant.freedom;
    // Of nine rates, two thirds of the reach hold five or six, half of it five.
    assert_eq!((freedom(0), freedom(3), freedom(5)), (35., 14., 11.));
    assert_eq!(agrees(&windows, 0).map(|verdict| verdict.tested_with), Some(14.));
    // Near the end both comparisons are with the last window.
    let last = windows.len() - 1;
    let before =
        (0..last).rev().find(|&k| windows[k].joint.n_points > windows[last].joint.n_points);
    let verdict = agrees(&windows, before.unwrap()).unwrap();
    assert_eq!(verdict.tested_with, freedom(last));
}

#[test]
fn of_the_windows_further_on_one_that_loses_no_cell_is_used() {
    let config = ParabolaConfig::default();
    let all = valleys(9, f64::INFINITY, 0);
    let joint = joint(&all).unwrap();
    let reach = |lost: usize| {
        let mut valleys = all.clone();
        // Three points that fall from left to right enclose no lowest one.
        valleys.iter_mut().take(lost).for_each(|valley| {
            valley.points = vec![(-1., 3.), (0., 2.5), (1., 2.1)];
        });
        Reach { reach: 1., valleys, joint }
    };
    let used = |lost: [usize; 4]| narrower(&lost.map(reach), 0, &config);
    assert_eq!(used([0, 0, 0, 0]), FURTHER);
    assert_eq!(used([0, 0, 2, 0]), 1);
    assert_eq!(used([0, 3, 2, 0]), 0);
    assert_eq!(used([1, 1, 1, 0]), FURTHER);
    // There may be no window so far on.
    assert_eq!(narrower(&[reach(0)], 0, &config), 0);
}
