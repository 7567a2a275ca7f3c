use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal};

use super::*;
use crate::fit::fit;
use crate::law::{Chinchilla, PowerLaw, internal, predict};
use crate::objective::Constraint;
use crate::units::Flops;

fn noisy(clean: Vec<f64>, noise: f64, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let error = |y: f64| {
        let error: f64 = StandardNormal.sample(&mut rng);
        y * (noise * error).exp()
    };
    clean.into_iter().map(error).collect()
}

fn line(seed: u64) -> Observations {
    let x: Vec<f64> = (0..30).map(|i| 10_f64.powf(0.1 * f64::from(i))).collect();
    let y = noisy(x.iter().map(|x| 5. * x.powf(-0.3)).collect(), 0.02, seed);
    Observations::new("y", y).with_input("x", x)
}

fn runs(seed: u64) -> Observations {
    let law = Chinchilla::new();
    let theta = internal(&law, &[480., 2100., 1.8, 0.35, 0.37]);
    let (mut n, mut d, mut loss) = (vec![], vec![], vec![]);
    for params in [3e7, 1e8, 4e8, 1.6e9, 6.4e9] {
        for tokens in [1e9, 4e9, 1.6e10, 6.4e10, 2.56e11] {
            loss.push(predict(&law, &theta, &[("n", params), ("d", tokens)]).unwrap());
            n.push(params);
            d.push(tokens);
        }
    }
    Observations::new("loss", noisy(loss, 0.004, seed)).with_input("n", n).with_input("d", d)
}

#[test]
fn a_straight_lines_profile_is_the_closed_form() {
    let (law, runs) = (PowerLaw::pure("x"), line(1));
    let config = FitConfig::new(Objective::NlsLog);
    let fitted = fit(&law, &runs, &config).unwrap();
    let quantity = Quantity::parameter(&law, "alpha").unwrap();
    let profile = profile(&law, &runs, &config, &fitted, &quantity, 0.95).unwrap();
    // RSS(alpha) / RSS_min = 1 + (alpha - best)² / (28 se²): the interval is Student's, with 28 degrees of freedom.
    let half = 2.048_407_141_795_244 * fitted.standard_errors()[1];
    assert!((profile.cut - 2.048_407_141_795_244_f64.powi(2)).abs() < 1e-9);
    assert!((profile.interval.low - (profile.estimate - half)).abs() < 1e-6 * half, "{profile:?}");
    assert!((profile.interval.high - (profile.estimate + half)).abs() < 1e-6 * half);
    assert!(!profile.open_low && !profile.open_high);
}

#[test]
fn ends_are_where_a_fit_with_the_parameter_held_meets_the_cut() {
    let (law, runs) = (Chinchilla::new(), runs(2));
    for objective in [Objective::NlsLog, Objective::Nls, Objective::HUBER, Objective::Lad] {
        let config = FitConfig::new(objective);
        let fitted = fit(&law, &runs, &config).unwrap();
        let factor = deviance_factor(&fitted, &vec![1.; runs.len()]);
        for name in ["alpha", "E"] {
            let quantity = Quantity::parameter(&law, name).unwrap();
            let profile = profile(&law, &runs, &config, &fitted, &quantity, 0.9).unwrap();
            for end in [profile.interval.low, profile.interval.high] {
                let mut held = config.clone();
                held.constraints = vec![Constraint::Fixed(name.into(), end)];
                let value = fit(&law, &runs, &held).unwrap().objective_value;
                let at = factor * (value - fitted.objective_value);
                // Absolute deviations are smoothed a little on the way; the others are exact.
                let limit = if objective == Objective::Lad { 0.02 } else { 1e-5 };
                assert!(
                    (at / profile.cut - 1.).abs() < limit,
                    "{objective:?} {name}: {at} {}",
                    profile.cut
                );
            }
        }
    }
}

#[test]
fn what_users_need_has_intervals_too() {
    let (law, runs) = (Chinchilla::new(), runs(3));
    let config = FitConfig::new(Objective::NlsLog);
    let fitted = fit(&law, &runs, &config).unwrap();
    let inside = Quantity::prediction(&law, &[("n", 1e9), ("d", 2e10)]).unwrap();
    let outside = Quantity::prediction(&law, &[("n", 1e12), ("d", 1e13)]).unwrap();
    let size = Quantity::optimal_params(Flops(1e24));
    let [inside, outside, size] = [inside, outside, size]
        .map(|quantity| profile(&law, &runs, &config, &fitted, &quantity, 0.95).unwrap());
    assert!(inside.interval.contains(inside.estimate) && size.interval.contains(size.estimate));
    let relative = |profile: &Profile| profile.interval.width() / profile.estimate;
    assert!(relative(&inside) < 0.01 && relative(&outside) > 3. * relative(&inside));
    assert!(size.points.windows(2).all(|pair| pair[0].0 <= pair[1].0));
}

#[test]
fn an_end_that_the_data_leave_open_is_open() {
    // Losses that bend a little: the floor may as well be zero, but not be much larger.
    let law = PowerLaw::with_floor("x");
    let x: Vec<f64> = (0..24).map(|i| 10_f64.powf(0.1 * f64::from(i))).collect();
    let y = noisy(x.iter().map(|x| 0.05 + 3. * x.powf(-0.3)).collect(), 0.02, 1);
    let runs = Observations::new("y", y).with_input("x", x);
    let config = FitConfig::new(Objective::NlsLog);
    let fitted = fit(&law, &runs, &config).unwrap();
    let floor = Quantity::parameter(&law, "E").unwrap();
    let profile = profile(&law, &runs, &config, &fitted, &floor, 0.95).unwrap();
    assert!(profile.open_low && profile.interval.low == 0., "{profile:?}");
    assert!(!profile.open_high && profile.interval.contains(0.05), "{profile:?}");
}

#[test]
fn a_better_optimum_on_the_way_is_warned_of() {
    let (law, runs) = (Chinchilla::new(), runs(5));
    let config = FitConfig::new(Objective::NlsLog);
    let mut fitted = fit(&law, &runs, &config).unwrap();
    let quantity = Quantity::parameter(&law, "alpha").unwrap();
    let warnings =
        |fitted: &Fit| profile(&law, &runs, &config, fitted, &quantity, 0.95).unwrap().warnings;
    assert_eq!(warnings(&fitted), Vec::<String>::new());
    // As if the search had ended on another, higher optimum.
    fitted.objective_value *= 2.;
    let found = warnings(&fitted);
    let expected = "a better optimum was found on the profile: the fit is not the best one, and its intervals are around \
                    the wrong place";
    assert!(found.contains(&expected.to_owned()), "{found:?}");
}

#[test]
fn a_refit_that_does_not_converge_is_warned_of() {
    let (law, runs) = (Chinchilla::new(), runs(5));
    let config = FitConfig::new(Objective::NlsLog);
    let fitted = fit(&law, &runs, &config).unwrap();
    let quantity = Quantity::parameter(&law, "alpha").unwrap();
    let stop = Stop { max_steps: 1, tolerance: 1e-12, ..Stop::COLD };
    let found = profile_until(&law, &runs, &config, &fitted, &quantity, 0.95, stop).unwrap();
    let expected = "the refit at both of its ends did not converge: the interval may be off";
    assert_eq!(found.warnings, [expected]);
}

/// A law of one parameter, `t`, whose effect takes a steep step at a distance of 1 from 0.
#[derive(Debug)]
struct Step;

impl Step {
    /// The logarithm of the prediction in units of [`Step::UNIT`], and its derivative.
    fn at(t: f64) -> (f64, f64) {
        let share = 1. / (1. + (-(t.abs() - 1.) / 0.02).exp());
        let slope = 0.6 + 0.55 / 0.02 * share * (1. - share);
        (t.signum() * (0.6 * t.abs() + 0.55 * share), slope)
    }

    /// What 20 points that err by 0.01 either way see at 95 %: Student's quantile of 19 degrees of freedom.
    const UNIT: f64 = 0.01 * 2.093_024_054_408_263 / 4.358_898_943_540_674;
}

impl Law for Step {
    fn name(&self) -> String {
        "step".into()
    }

    fn parameters(&self) -> Vec<crate::law::Parameter> {
        vec![crate::law::Parameter::linear("t", -1e3, 1e3, "")]
    }

    fn inputs(&self) -> Vec<crate::law::Input> {
        vec![]
    }

    fn columns(&self, _inputs: &[&[f64]]) -> Vec<Vec<f64>> {
        vec![]
    }

    fn log_predict(
        &self,
        theta: &[f64],
        _design: &crate::law::Design,
        _scratch: &mut [f64],
        out: &mut [f64],
    ) {
        out.fill(Self::UNIT * Self::at(theta[0]).0);
    }

    fn log_gradient(
        &self,
        theta: &[f64],
        _design: &crate::law::Design,
        _scratch: &[f64],
        _log_prediction: &[f64],
        jacobian: &mut [f64],
    ) {
        jacobian.fill(Self::UNIT * Self::at(theta[0]).1);
    }

    fn starts(
        &self,
        _design: &crate::law::Design,
        _log_target: &[f64],
        _weights: &[f64],
    ) -> Vec<Vec<f64>> {
        vec![vec![0.1]]
    }
}

#[test]
fn a_profile_that_jumps_across_the_cut_is_no_end() {
    let y = (0..20).map(|i| (if i % 2 == 0 { 0.01_f64 } else { -0.01 }).exp()).collect();
    let runs = Observations::new("y", y);
    let config = FitConfig::new(Objective::NlsLog);
    let fitted = fit(&Step, &runs, &config).unwrap();
    let quantity = Quantity::parameter(&Step, "t").unwrap();
    let found = profile(&Step, &runs, &config, &fitted, &quantity, 0.95).unwrap();
    // The step leads from 0.6 to 1.15 of the cut's root; no pull holds the parameter on its upper half.
    let expected = "the profile jumps across the cut at both of its ends: the interval reaches beyond the jump";
    assert_eq!(found.warnings, [expected]);
    assert!(found.interval.low < -1.05 && found.interval.high > 1.05, "{found:?}");
    // A smooth profile is none of this, however its refits are rounded.
    let (law, runs) = (PowerLaw::pure("x"), line(1));
    let fitted = fit(&law, &runs, &config).unwrap();
    let alpha = Quantity::parameter(&law, "alpha").unwrap();
    let smooth = profile(&law, &runs, &config, &fitted, &alpha, 0.95).unwrap();
    assert_eq!(smooth.warnings, Vec::<String>::new());
}

#[test]
fn exact_data_have_intervals_without_width() {
    let law = PowerLaw::pure("x");
    let x: Vec<f64> = (1..9).map(f64::from).collect();
    let y = x.iter().map(|x| 5. * x.powf(-0.3)).collect();
    let runs = Observations::new("y", y).with_input("x", x);
    let quantity = Quantity::parameter(&law, "alpha").unwrap();
    for objective in [Objective::NlsLog, Objective::Nls, Objective::HUBER, Objective::Lad] {
        let config = FitConfig::new(objective);
        let fitted = fit(&law, &runs, &config).unwrap();
        let found = profile(&law, &runs, &config, &fitted, &quantity, 0.95).unwrap();
        assert_eq!((found.interval.low, found.interval.high), (found.estimate, found.estimate));
        assert!((found.estimate - 0.3).abs() < 1e-9);
    }
}

#[test]
fn a_level_outside_its_range_is_refused() {
    let (law, runs) = (PowerLaw::pure("x"), line(1));
    let config = FitConfig::default();
    let fitted = fit(&law, &runs, &config).unwrap();
    let quantity = Quantity::parameter(&law, "alpha").unwrap();
    let error = profile(&law, &runs, &config, &fitted, &quantity, 95.).unwrap_err();
    assert_eq!(error.to_string(), "level must be between 0 and 1, got 95");
}
