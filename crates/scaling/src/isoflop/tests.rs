use super::*;
use crate::law::{Chinchilla, internal, predict};
use crate::units::Tokens;

/// Runs of a law at 6 budgets, 9 sizes each around the optimum.
fn runs() -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let law = Chinchilla::new();
    let theta = internal(&law, &[400., 900., 1.8, 0.34, 0.34]);
    let (mut n, mut flops, mut loss) = (vec![], vec![], vec![]);
    for i in 0..6 {
        let budget = Flops(1e18 * 8_f64.powi(i));
        let best = Chinchilla::frontier(&theta).at(budget).0.0;
        for j in -4..=4 {
            let size = best * 1.5_f64.powi(j);
            n.push(size);
            flops.push(budget.0 * (1. + 0.001 * f64::from(j)));
            loss.push(predict(&law, &theta, &[("n", size), ("d", budget.0 / 6. / size)]).unwrap());
        }
    }
    (n, flops, loss)
}

#[test]
fn a_symmetric_valley_gives_its_exponent_back() {
    let (n, flops, loss) = runs();
    let profiles = profiles(&n, &flops, &loss, 0.05, &ParabolaConfig::default()).unwrap();
    assert_eq!(profiles.len(), 6);
    assert!(profiles.iter().all(|p| p.runs.len() == 9 && p.optimum.vertex().is_some()));
    let fit = exponent(&profiles).unwrap();
    assert!((fit.exponent - 0.5).abs() < 1e-3, "{fit:?}");
    assert!(fit.exponent_ci95.contains(0.5) && fit.r2 > 0.999);
}

#[test]
fn the_envelope_follows_the_best_sizes() {
    let (n, flops, loss) = runs();
    let best = envelope(&n, &flops, &loss, 8.).unwrap();
    assert!(best.len() >= 5, "{best:?}");
    let (c, n): (Vec<f64>, Vec<f64>) = best.iter().map(|(c, n)| (c.0, n.0)).unzip();
    let fit = power_fit(&c, &n, None).unwrap();
    assert!((fit.exponent - 0.5).abs() < 0.06, "{fit:?}");
}

#[test]
fn budgets_without_an_optimum_are_left_out() {
    let (n, flops, mut loss) = runs();
    for (i, loss) in loss.iter_mut().enumerate().take(9) {
        *loss = 5. + 0.1 * i as f64; // the smallest model is always best
    }
    let profiles = profiles(&n, &flops, &loss, 0.05, &ParabolaConfig::default()).unwrap();
    assert!(profiles[0].optimum.vertex().is_none());
    assert_eq!(exponent(&profiles).unwrap().used.len(), 5);
    assert!(exponent(&profiles[..2]).is_err());
}

#[test]
fn missing_optima_and_empty_weights_do_not_poison_a_power_law() {
    let x = [1., 10., 100., 1000.];
    let y = [f64::NAN, 20., 200., 2000.];
    let weights = [1., 1., 0., 4.];
    let fit = power_fit(&x, &y, Some(&weights)).unwrap();
    assert_eq!(fit.used, [1, 3]);
    assert!((fit.exponent - 1.).abs() < 1e-12 && (fit.at(50.) - 100.).abs() < 1e-9);
    let message = power_fit(&x[..2], &y[..2], None).unwrap_err().to_string();
    assert_eq!(message, "the exponent is not identified: 1 usable points at distinct values");
}

#[test]
fn the_three_approaches_agree_on_data_of_one_law() {
    let (n, flops, loss) = runs();
    let law = Chinchilla::new();
    let d: Vec<f64> = flops.iter().zip(&n).map(|(c, n)| c / 6. / n).collect();
    let runs = crate::Observations::new("loss", loss.clone())
        .with_input("n", n.clone())
        .with_input("d", d);
    let fit = crate::fit(&law, &runs, &crate::FitConfig::new(crate::Objective::NlsLog)).unwrap();
    let third = Chinchilla::frontier(&fit.theta);
    let profiles = profiles(&n, &flops, &loss, 0.05, &ParabolaConfig::default()).unwrap();
    let second = exponent(&profiles).unwrap();
    assert!((second.exponent - third.exponent).abs() < 0.01);
    let (Params(best), Tokens(_)) = third.at(Flops(1e21));
    assert!((second.at(1e21) / best).ln().abs() < 0.1);
}
