mod windows;

use super::*;
use crate::law::Law;

/// Two sizes, three horizons, seven learning rates around `LR* = 1e-3 (n / 1e8)^-0.2 (d / 1e9)^-0.3`.
fn sweep() -> [Vec<f64>; 4] {
    let mut columns = [const { vec![] }; 4];
    for n in [1e8, 4e8] {
        for d in [1e9, 4e9, 1.6e10] {
            let best = 1e-3 * (n / 1e8_f64).powf(-0.2) * (d / 1e9_f64).powf(-0.3);
            for i in -3..=3 {
                let lr = 1e-3 * 2_f64.powi(i);
                let noise = 1e-6 * f64::from((7 * i + columns[0].len() as i32 * 13) % 11);
                let loss = 2.5 + 0.02 * (lr / best).ln().powi(2) + noise;
                columns
                    .iter_mut()
                    .zip([n, d, lr, loss])
                    .for_each(|(column, value)| column.push(value));
            }
        }
    }
    columns
}

fn read(columns: &[Vec<f64>; 4]) -> Vec<SweepCell> {
    let [n, d, lr, loss] = columns;
    let sweep = Sweep { n: Some(n), d, batch: None, lr, loss };
    cells(&sweep, &ParabolaConfig::default()).unwrap()
}

#[test]
fn cells_give_the_law_back() {
    let cells = read(&sweep());
    assert_eq!(cells.len(), 6);
    assert!((curvature(&cells).unwrap() - 0.02).abs() < 1e-5);
    let optima = optima(&cells).unwrap();
    let law = horizon_law(&optima, CountUnit::Billions).unwrap();
    let fit = crate::fit(&law, &optima, &crate::FitConfig::new(crate::Objective::NlsLog)).unwrap();
    assert!((fit.value("alpha").unwrap() - 0.2).abs() < 1e-3);
    assert!((fit.value("beta").unwrap() - 0.3).abs() < 1e-3);
}

#[test]
fn what_does_not_vary_gets_no_exponent() {
    let [n, d, lr, loss] = sweep();
    let batch = vec![128.; d.len()];
    let all = Sweep {
        n: Some(&n[..21]),
        d: &d[..21],
        batch: Some(&batch[..21]),
        lr: &lr[..21],
        loss: &loss[..21],
    };
    let found = optima(&cells(&all, &ParabolaConfig::default()).unwrap()).unwrap();
    let law = horizon_law(&found, CountUnit::Raw).unwrap();
    let names: Vec<String> = law.parameters().into_iter().map(|parameter| parameter.name).collect();
    assert_eq!(names, ["C", "beta"]);
    let one = Sweep { n: Some(&n[..7]), d: &d[..7], batch: None, lr: &lr[..7], loss: &loss[..7] };
    let found = optima(&cells(&one, &ParabolaConfig::default()).unwrap()).unwrap();
    assert_eq!(
        horizon_law(&found, CountUnit::Raw).unwrap_err().to_string(),
        "the exponent of the horizon is not identified: every cell that shows an optimum has the same horizon: add runs of \
         others"
    );
}

#[test]
fn a_cell_whose_best_is_its_last_shows_no_optimum() {
    let mut columns = sweep();
    for (i, loss) in columns[3].iter_mut().enumerate().take(7) {
        *loss = 3. - 0.1 * i as f64;
    }
    let cells = read(&columns);
    assert_eq!(cells.iter().filter(|cell| cell.optimum.vertex().is_none()).count(), 1);
    assert_eq!(optima(&cells).unwrap().len(), 5);
}

#[test]
fn an_unusable_value_is_named() {
    let mut columns = sweep();
    columns[1][3] = 0.;
    let [n, d, lr, loss] = &columns;
    let error = cells(&Sweep { n: Some(n), d, batch: None, lr, loss }, &ParabolaConfig::default());
    assert_eq!(error.unwrap_err().to_string(), "row 4, column `d`: must be positive, got 0");
}

/// As [`sweep`], with valleys that are steeper to the right, and `LR*` in the table.
fn slanted(noise: f64) -> ([Vec<f64>; 4], f64) {
    let mut columns = sweep();
    let slant = 0.003;
    let [n, d, lr, loss] = &mut columns;
    for i in 0..lr.len() {
        let best = 1e-3 * (n[i] / 1e8_f64).powf(-0.2) * (d[i] / 1e9_f64).powf(-0.3);
        let x = (lr[i] / best).ln();
        let error = noise * f64::from((i as i32 * 29) % 17 - 8);
        loss[i] = 2.5 + 0.02 * x * x + slant * x.powi(3) + error;
    }
    (columns, slant)
}

#[test]
fn the_slant_that_all_valleys_share_is_found_and_taken_out() {
    let (columns, truth) = slanted(0.);
    let [n, d, lr, loss] = &columns;
    let sweep = Sweep { n: Some(n), d, batch: None, lr, loss };
    let config = ParabolaConfig::default();
    let plain = parabolas(&sweep, &config).unwrap();
    let found = slant(&sweep, &plain, &config).unwrap();
    assert!((found.coefficient - truth).abs() < 1e-10 && found.se < 1e-10, "{found:?}");
    let best = |cell: &SweepCell| {
        1e-3 * (cell.n.unwrap() / 1e8_f64).powf(-0.2) * (cell.d / 1e9_f64).powf(-0.3)
    };
    let off = |cells: &[SweepCell]| {
        let of = |cell: &SweepCell| (cell.optimum.vertex().unwrap().x / best(cell)).ln().abs();
        cells.iter().map(of).fold(0., f64::max)
    };
    assert!(off(&plain) > 0.1, "{}", off(&plain));
    assert!(off(&cells(&sweep, &config).unwrap()) < 1e-9);
}

#[test]
fn the_error_of_the_slant_moves_every_optimum_as_a_refit_does() {
    let (columns, _) = slanted(2e-4);
    let [n, d, lr, loss] = &columns;
    let sweep = Sweep { n: Some(n), d, batch: None, lr, loss };
    let config = ParabolaConfig::default();
    let plain = parabolas(&sweep, &config).unwrap();
    let found = slant(&sweep, &plain, &config).unwrap();
    let valleys = slant::valleys(&sweep, &plain, &config);
    let moved = |by: f64| {
        let mut cells = plain.clone();
        let moved = Slant { coefficient: found.coefficient + by, ..found };
        moved.take_out(&valleys, &mut cells, &config);
        cells
    };
    let wide = crate::distribution::student_quantile(0.975, found.freedom) / 1.959_964;
    let step = 1e-3 * found.se;
    for ((cell, above), below) in moved(0.).iter().zip(moved(step)).zip(moved(-step)) {
        let ln_x = |cell: &SweepCell| cell.optimum.vertex().unwrap().ln_x;
        let rate = (ln_x(&above) - ln_x(&below)) / (2. * step);
        let want = wide * rate * found.se;
        let got = cell.slant_error.unwrap();
        assert!((got / want - 1.).abs() < 1e-4, "{got} {want}");
    }
}

#[test]
fn a_shared_error_widens_intervals_and_not_the_scatter() {
    let (columns, _) = slanted(2e-4);
    let cells = read(&columns);
    let with = optima(&cells).unwrap();
    let without = with.clone().with_shared_error(vec![0.; with.len()]);
    let law = horizon_law(&with, CountUnit::Billions).unwrap();
    let config = crate::FitConfig::new(crate::Objective::NlsLog);
    let [with_fit, without_fit] =
        [&with, &without].map(|runs| crate::fit(&law, runs, &config).unwrap());
    assert_eq!(with_fit.theta, without_fit.theta);
    let quantity = crate::Quantity::prediction(&law, &[("n", 4e8), ("d", 6.4e10)]).unwrap();
    let [(wide, more), (narrow, plain)] =
        [&with_fit, &without_fit].map(|fit| fit.variance(&quantity).unwrap());
    assert!(wide > narrow && more > plain, "{wide} {narrow} {more} {plain}");
    assert_eq!(plain, without_fit.freedom());
    // The law is linear in its parameters: the profile is the same interval.
    let profile = crate::profile(&law, &with, &config, &with_fit, &quantity, 0.95).unwrap();
    let student = with_fit.interval(&quantity, 0.95).unwrap();
    assert!((profile.interval.low / student.low - 1.).abs() < 1e-5, "{profile:?} {student:?}");
    assert!((profile.interval.high / student.high - 1.).abs() < 1e-5);
}

#[test]
fn too_few_points_leave_parabolas_as_they_are() {
    let (columns, _) = slanted(0.);
    let check = |columns: [Vec<f64>; 4]| {
        let [n, d, lr, loss] = &columns;
        let sweep = Sweep { n: Some(n), d, batch: None, lr, loss };
        let config = ParabolaConfig::default();
        let found = super::read(&sweep, &config).unwrap();
        assert_eq!(found.valleys, Valleys::Untested);
        assert_eq!(found.cells, parabolas(&sweep, &config).unwrap());
        assert!(optima(&found.cells).unwrap().shared_error().is_none());
    };
    check(columns.clone().map(|column| column[..7].to_vec()));
    // Two cells have seven degrees of freedom, and four points each in the middle only one more than parabolas: a slant
    // could be fitted, but nothing says whether it is the same further out.
    let five = |column: Vec<f64>| [&column[1..6], &column[8..13]].concat();
    check(columns.map(five));
}

/// A sweep whose valleys have a cubic term that ends at 1.5 from the lowest point.
fn golden() -> [Vec<f64>; 4] {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/scaling");
    let table = crate::Table::read_csv(&folder.join("synth_lr_A.csv")).unwrap();
    ["N", "D", "lr", "loss"].map(|name| table.numbers(name).unwrap())
}

/// The truth of `synth_lr_A`.
fn golden_best(n: f64, d: f64) -> f64 {
    1.55e-3 * (n / 1e9).powf(-0.23) * (d / 1e9).powf(-0.32)
}

#[test]
fn optima_of_broken_valleys_are_not_further_off_than_parabolas() {
    use crate::audit::{Target, predict_fitted};
    use crate::units::{Params, Tokens};
    let columns = golden();
    let [n, d, lr, loss] = &columns;
    let sweep = Sweep { n: Some(n), d, batch: None, lr, loss };
    let config = ParabolaConfig::default();
    let target = Target { n: Params(7e9), d: Tokens(1e12), batch: None };
    let truth = golden_best(7e9, 1e12);
    let read = |cells: Vec<SweepCell>| {
        let off =
            |cell: &SweepCell| Some((cell.optimum.vertex()?.x / golden_best(cell.n?, cell.d)).ln());
        let off: Vec<f64> = cells.iter().filter_map(off).collect();
        assert_eq!(off.len(), 25);
        let optima = optima(&cells).unwrap();
        let law = horizon_law(&optima, CountUnit::Billions).unwrap();
        let fit = crate::fit(&law, &optima, &crate::FitConfig::new(crate::Objective::NlsLog));
        let found = predict_fitted(&law, &fit.unwrap(), &target).unwrap();
        let common = off.iter().sum::<f64>() / 25.;
        let size = (off.iter().map(|off| off * off).sum::<f64>() / 25.).sqrt();
        (common.abs(), size, (found.lr / truth).ln().abs(), found.interval.unwrap())
    };
    let plain = read(parabolas(&sweep, &config).unwrap());
    let ours = read(cells(&sweep, &config).unwrap());
    for (name, (common, single, target, _)) in [("as read", &ours), ("parabolas", &plain)] {
        println!("{name}: common {common:.4}, single {single:.4}, at the target {target:.4}");
    }
    // What all cells are off by, and what a law makes of it; single optima scatter a little more, from fewer points.
    assert!(ours.0 < 0.5 * plain.0 && ours.2 < plain.2, "{ours:?} {plain:?}");
    assert!(ours.1 < 1.1 * plain.1, "{ours:?} {plain:?}");
    assert!(ours.3.contains(truth) && !plain.3.contains(truth), "{ours:?} {plain:?} {truth}");
}
