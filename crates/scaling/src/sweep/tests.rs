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
        "the exponent of the horizon is not identified: every cell that shows an optimum has the same horizon"
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
