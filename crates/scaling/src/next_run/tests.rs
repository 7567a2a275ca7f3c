use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::law::{Chinchilla, LrHorizon, internal, predict};
use crate::units::{CountUnit, Flops};
use crate::{FitConfig, Objective, fit};

fn noise(rng: &mut ChaCha20Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.
}

fn runs(seed: u64) -> Observations {
    let law = Chinchilla::new();
    let theta = internal(&law, &[400., 900., 1.8, 0.34, 0.3]);
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (mut n, mut d, mut loss) = (vec![], vec![], vec![]);
    for i in 0..5 {
        for j in 0..5 {
            n.push(1e7 * 4_f64.powi(i));
            d.push(1e9 * 3_f64.powi(j));
            let at = [("n", n[n.len() - 1]), ("d", d[d.len() - 1])];
            loss.push(predict(&law, &theta, &at).unwrap() * (0.002 * noise(&mut rng)).exp());
        }
    }
    Observations::new("loss", loss).with_input("n", n).with_input("d", d)
}

/// Standard error of a quantity by refitting with the run added at its predicted value.
fn after(
    law: &Chinchilla,
    observations: &Observations,
    fitted: &Fit,
    q: &Quantity,
    run: &RunOption,
) -> f64 {
    let inputs: Vec<(&str, f64)> = run.inputs.iter().map(|(name, v)| (name.as_str(), *v)).collect();
    let push = |values: &[f64], value: f64| [values, &[value]].concat();
    let loss = push(observations.target(), predict(law, &fitted.theta, &inputs).unwrap());
    let more = Observations::new("loss", loss)
        .with_input("n", push(observations.input("n").unwrap(), inputs[0].1))
        .with_input("d", push(observations.input("d").unwrap(), inputs[1].1));
    let again = fit(law, &more, &FitConfig::new(Objective::NlsLog)).unwrap();
    let g = Array1::from(q.gradient(&again.theta));
    g.dot(&again.covariance.unwrap().dot(&g)).sqrt()
}

#[test]
fn promised_errors_are_those_of_a_refit() {
    let (law, observations) = (Chinchilla::new(), runs(1));
    let fitted = fit(&law, &observations, &FitConfig::new(Objective::NlsLog)).unwrap();
    let target = Quantity::prediction(&law, &[("n", 2e10), ("d", 4e11)]).unwrap();
    let options = [
        RunOption::of_size(1e7, 1e9),
        RunOption::of_size(1e10, 1e11),
        RunOption::of_size(2e10, 4e11),
    ];
    let gains = rank(&law, &fitted, &observations, &target, &options, f64::INFINITY).unwrap();
    assert_eq!(gains[0].option, 2, "measuring the target itself says most: {gains:?}");
    for gain in &gains {
        let refitted = after(&law, &observations, &fitted, &target, &options[gain.option]);
        // The refit has one more degree of freedom: sqrt(21 / 20) is 2.5 %.
        assert!((refitted / gain.se_after - 1.).abs() < 0.03, "{refitted} {gain:?}");
    }
}

#[test]
fn budgets_are_kept() {
    let (law, observations) = (Chinchilla::new(), runs(2));
    let fitted = fit(&law, &observations, &FitConfig::default()).unwrap();
    let quantity = Quantity::optimal_params(Flops(1e23));
    let options = grid(&observations, 2., 7, 1e22);
    assert!(options.iter().all(|option| option.cost <= 1e22) && options.len() > 20);
    let gains = rank(&law, &fitted, &observations, &quantity, &options, 1e20).unwrap();
    assert!(!gains.is_empty() && gains.iter().all(|gain| gain.cost <= 1e20));
    assert!(gains.iter().all(|gain| (0. ..=1.).contains(&gain.shrinkage())));
    let bought = plan(&law, &fitted, &observations, &quantity, &options, 3e21, 0.01).unwrap();
    assert!(!bought.is_empty() && bought.iter().map(|gain| gain.cost).sum::<f64>() <= 3e21);
    for pair in bought.windows(2) {
        assert!(pair[1].se_before <= pair[0].se_after * (1. + 1e-9), "{bought:?}");
    }
}

#[test]
fn an_option_without_an_input_is_refused() {
    let (law, observations) = (Chinchilla::new(), runs(3));
    let fitted = fit(&law, &observations, &FitConfig::default()).unwrap();
    let options = [RunOption { inputs: vec![("n".into(), 1e9)], cost: 1. }];
    let error = rank(&law, &fitted, &observations, &Quantity::frontier_exponent(), &options, 2.);
    let expected = "column `d`: a run that could be bought lacks this input";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[test]
fn a_line_is_learned_at_its_end() {
    // For a straight line in ln D the best place to measure its value far right is the right end.
    let law = LrHorizon::of_tokens(CountUnit::Billions);
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let d: Vec<f64> = (0..6).map(|i| 1e9 * 2_f64.powi(i)).collect();
    let lr =
        d.iter().map(|d| 1e-3 * (d / 1e9).powf(-0.3) * (0.03 * noise(&mut rng)).exp()).collect();
    let observations = Observations::new("lr", lr).with_input("d", d.clone());
    let fitted = fit(&law, &observations, &FitConfig::new(Objective::NlsLog)).unwrap();
    let target = Quantity::prediction(&law, &[("d", 1e12)]).unwrap();
    let options: Vec<RunOption> =
        d.iter().map(|&d| RunOption { inputs: vec![("d".into(), d)], cost: d }).collect();
    let gains = rank(&law, &fitted, &observations, &target, &options, f64::INFINITY).unwrap();
    assert_eq!(gains[0].option, 5, "{gains:?}");
}
