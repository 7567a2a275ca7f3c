//! From losses to optima, laws and verdicts.

use forerun_runs::seed::Seed;
use forerun_runs::verdict::Verdict;
use forerun_scaling::parabola::{ParabolaConfig, Window};
use rand::Rng;
use serde_json::json;

use super::small;
use super::world::{Made, WORLD, World};
use crate::config::Experiment;
use crate::horizon::spread::Spread;
use crate::horizon::valley::Reader;
use crate::horizon::{HELD_OUT, Place, Rate};
use crate::outcome::{Curve, judge_all};

fn verdict(experiment: &Experiment, made: &Made, claim: &str) -> (Verdict, String) {
    let all = judge_all(experiment, &made.rows, &made.curves).unwrap();
    let found = all.into_iter().find(|verdict| verdict.name == claim).unwrap();
    (found.judgement.verdict, found.judgement.reason)
}

#[test]
fn a_known_law_is_found_and_foretells_the_held_out_horizon() {
    let (experiment, body) = small(&[]);
    let made = WORLD.made(&experiment, &body);
    let valleys = made.valleys(&body);
    let predicted = valleys.predicted.unwrap();
    assert!((predicted / WORLD.best).ln().abs() < 0.05, "{predicted}");
    let carried = valleys.carried.unwrap();
    assert!((carried / (WORLD.best * 16_f64.powf(0.25))).ln().abs() < 0.05, "{carried}");
    let exponent = valleys.fitted_law(&valleys.seeds).unwrap().exponent();
    assert!((exponent - WORLD.exponent).abs() < 0.04, "{exponent}");
    for claim in [
        "optimum-falls-with-the-horizon",
        "the-law-errs-less-than-carrying-over",
        "predicted-rate-is-near-the-best",
        "predicted-rate-beats-the-carried-one",
        "mup-optimum-falls-with-the-horizon",
    ] {
        let (verdict, reason) = verdict(&experiment, &made, claim);
        assert_eq!(verdict, Verdict::Reproduced, "{claim}: {reason}");
    }
    // The arms of this world do not differ.
    for claim in ["standard-optimum-moves-with-width", "mup-optimum-moves-less-with-width"] {
        let (verdict, reason) = verdict(&experiment, &made, claim);
        assert_ne!(verdict, Verdict::Reproduced, "{claim}: {reason}");
    }
}

#[test]
fn the_interval_of_a_law_holds_the_truth_and_what_was_drawn() {
    let (experiment, body) = small(&["sweep.bootstrap=200"]);
    let made = WORLD.made(&experiment, &body);
    let valleys = made.valleys(&body);
    let spread = |label: &str| {
        let mut rng = Seed::new(1).stream(label);
        Spread::new(&valleys, &body.arms[0], &body.horizons.fitted, &mut rng).unwrap()
    };
    let found = spread("a");
    let (exponent, rate) = (found.exponent(), found.rate_at(body.n_tokens(HELD_OUT)));
    assert!(exponent.interval.unwrap().contains(WORLD.exponent), "{exponent:?}");
    assert!(rate.interval.unwrap().contains(WORLD.best), "{rate:?}");
    assert!(rate.interval.unwrap().contains(rate.value));
    assert_eq!(spread("a").exponent(), exponent, "the same draws");
    assert_eq!(found.n_failed, 0);
    // Beyond what was run the law is known less well.
    let far = found.rate_at(64.0 * body.n_tokens(HELD_OUT)).interval.unwrap();
    let near = rate.interval.unwrap();
    assert!(far.high / far.low > near.high / near.low);
}

#[test]
fn a_best_rate_that_does_not_move_is_not_said_to_fall() {
    let (experiment, body) = small(&[]);
    let flat = World { exponent: 0.0, best: 0.0045, ..WORLD };
    let made = flat.made(&experiment, &body);
    for claim in [
        "optimum-falls-with-the-horizon",
        "mup-optimum-falls-with-the-horizon",
        "the-law-errs-less-than-carrying-over", // both are right
    ] {
        let (verdict, reason) = verdict(&experiment, &made, claim);
        assert_ne!(verdict, Verdict::Reproduced, "{claim}: {reason}");
    }
}

#[test]
fn a_valley_without_an_optimum_makes_claims_inconclusive_and_says_where() {
    let (experiment, body) = small(&[]);
    // The best rate lies below all that are tried.
    let made = World { best: 2e-4, ..WORLD }.made(&experiment, &body);
    let valleys = made.valleys(&body);
    assert_eq!((valleys.predicted, valleys.carried), (None, None));
    for claim in ["optimum-falls-with-the-horizon", "predicted-rate-is-near-the-best"] {
        let (verdict, reason) = verdict(&experiment, &made, claim);
        assert_eq!(verdict, Verdict::Inconclusive, "{claim}: {reason}");
        assert!(reason.contains("2.1 M tokens: the best learning rate lies below"), "{reason}");
    }
    let curved_down = World { curvature: -0.01, ..WORLD }.made(&experiment, &body);
    let (_, reason) = verdict(&experiment, &curved_down, "the-law-errs-less-than-carrying-over");
    assert!(reason.contains("seed 0 at 4.2 M tokens: the losses do not curve upwards"), "{reason}");
}

#[test]
fn a_best_rate_at_the_end_of_what_was_tried_proves_no_small_regret() {
    let (experiment, body) = small(&[]);
    // The law holds up to the fitted horizons; at the held-out one everything gets better towards low rates.
    let mut made = WORLD.made(&experiment, &body);
    let valleys = made.valleys(&body);
    let (predicted, carried) = (valleys.predicted.unwrap(), valleys.carried.unwrap());
    for curve in &mut made.curves {
        let place: Place = curve.arm.parse().unwrap();
        let lr = match place.rate {
            Rate::At(lr) => lr,
            Rate::Predicted => predicted,
            Rate::Carried => carried,
        };
        let mut rng = Seed::new(curve.seed).stream(&curve.arm);
        if let (HELD_OUT, Some(last)) = (place.part, curve.points.last_mut()) {
            last.1 = 1.6 + 1e-2 * (lr / WORLD.best).ln() + 2e-4 * rng.random_range(-1.0..1.0);
        }
    }
    let (verdict, reason) = verdict(&experiment, &made, "predicted-rate-is-near-the-best");
    assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
    assert!(reason.contains("is the lowest or the highest that was tried"), "{reason}");
}

#[test]
fn seeds_that_diverge_leave_a_rate_out_of_the_means() {
    let (experiment, body) = small(&["sweep.parabola.window='all'"]);
    let mut made = WORLD.made(&experiment, &body);
    let whole = made.valleys(&body);
    let arm = &body.arms[0];
    let before = whole.optimum(arm, 0.5, &whole.seeds);
    let first = Place { arm: "base".to_owned(), part: 0.5, rate: Rate::At(0.016) }.to_string();
    // One that diverged leaves no last loss, or none at all.
    made.curves.retain(|curve| curve.arm != first || curve.seed > 1);
    for curve in made.curves.iter_mut().filter(|curve| curve.arm == first && curve.seed == 2) {
        curve.points.truncate(1);
    }
    let left = made.valleys(&body);
    let after = left.optimum(arm, 0.5, &left.seeds);
    let (before, after) = (before.vertex().unwrap(), after.vertex().unwrap());
    assert_eq!((before.n_points, after.n_points), (8, 7));
    assert!((before.ln_x - after.ln_x).abs() < 1e-9, "levels of seeds move no optimum");
}

#[test]
fn a_best_rate_that_moves_with_the_width_under_one_parametrisation_alone_separates_them() {
    let (experiment, body) = small(&[]);
    let made = World { narrow: 2.0, ..WORLD }.made(&experiment, &body);
    for claim in ["standard-optimum-moves-with-width", "mup-optimum-moves-less-with-width"] {
        let (verdict, reason) = verdict(&experiment, &made, claim);
        assert_eq!(verdict, Verdict::Reproduced, "{claim}: {reason}");
    }
}

#[test]
fn the_rates_that_were_trained_are_those_that_the_rows_tell() {
    let (experiment, body) = small(&[]);
    let mut made = WORLD.made(&experiment, &body);
    let anew = made.valleys(&body).prediction(&[0, 1, 2, 3, 4]).unwrap();
    for row in made.rows.iter_mut().filter(|row| row["arm"] == "base/1/predicted") {
        row.insert("lr".to_owned(), json!(0.005));
    }
    let valleys = made.valleys(&body);
    assert_eq!(valleys.predicted, Some(0.005));
    assert!(valleys.held_out_loss(Some(0.005), 3).is_finite());
    assert_eq!(valleys.prediction(&valleys.seeds), Some(anew));
    // A cell that found no rate tells none.
    for row in made.rows.iter_mut().filter(|row| row["arm"] == "base/1/predicted") {
        row.remove("lr");
    }
    let valleys = made.valleys(&body);
    assert_eq!(valleys.predicted, None);
    assert!(valleys.carried.is_some() && valleys.seeds.len() == 5);
}

#[test]
fn a_seeds_own_luck_does_not_choose_what_it_is_compared_with() {
    let (experiment, body) = small(&[]);
    let mut made = WORLD.made(&experiment, &body);
    let best = made.valleys(&body).best().unwrap().lr;
    assert!([0, 1, 2, 3, 4].iter().all(|&seed| made.valleys(&body).best_for(seed) == Some(best)));
    // A rate that is far too high, and that one seed is lucky with: so much that the mean of all is lowest there.
    let lucky = Place { arm: "base".to_owned(), part: HELD_OUT, rate: Rate::At(0.0113) };
    let is_lucky = |curve: &&mut Curve| curve.arm == lucky.to_string() && curve.seed == 2;
    for curve in made.curves.iter_mut().filter(is_lucky) {
        curve.points[1].1 -= 1.0;
    }
    let valleys = made.valleys(&body);
    assert_eq!(valleys.best().unwrap().lr, 0.0113);
    assert_eq!(valleys.best_for(2), Some(best));
    assert_eq!(valleys.best_for(0), Some(0.0113), "the others believe in it");
    assert!(valleys.held_out_loss(valleys.best_for(2), 2) > 1.5);
}

/// The mean error of the exponent over some worlds of slanted valleys with noise.
fn bias(reader: impl Fn(ParabolaConfig) -> Reader) -> f64 {
    let (experiment, body) = small(&[]);
    let error = |salt| {
        let valley = World { best: 0.0027, curvature: 0.06, slant: 0.015, ..WORLD };
        let made = World { exponent: 0.4, noise: 0.02, salt, ..valley }.made(&experiment, &body);
        let valleys = made.valleys(&body).read_by(reader(body.sweep.parabola));
        valleys.fitted_law(&valleys.seeds).unwrap().exponent() - 0.4
    };
    (0..12).map(error).sum::<f64>() / 12.0
}

#[test]
fn where_too_large_a_rate_costs_more_a_wide_window_hides_some_of_the_fall() {
    let by = |window| bias(move |config| Reader::Parabolas(ParabolaConfig { window, ..config }));
    let (all, three, two) = (by(Window::All), by(Window::Around(3)), by(Window::Around(2)));
    let upright = bias(|config| Reader::Upright(ParabolaConfig { window: Window::All, ..config }));
    assert!(all < -0.03, "{all}");
    assert!(three.abs() < all.abs() / 2.0 && two.abs() < all.abs() / 2.0, "{three} and {two}");
    assert!(upright.abs() < all.abs() / 2.0, "{upright}");
}

#[test]
fn intervals_of_many_worlds_hold_the_truth_as_often_as_they_say() {
    if std::env::var_os("RUN_SLOW").is_none() {
        return;
    }
    let (experiment, body) = small(&["sweep.bootstrap=200"]);
    let mut hits = [0, 0];
    for salt in 0..400 {
        let made = World { salt, ..WORLD }.made(&experiment, &body);
        let valleys = made.valleys(&body);
        let mut rng = Seed::new(salt).stream("draws");
        let found = Spread::new(&valleys, &body.arms[0], &body.horizons.fitted, &mut rng).unwrap();
        let rate = found.rate_at(body.n_tokens(HELD_OUT)).interval.unwrap();
        hits[0] += usize::from(found.exponent().interval.unwrap().contains(WORLD.exponent));
        hits[1] += usize::from(rate.contains(WORLD.best));
    }
    // 380 are expected, give or take 4.4.
    assert!(hits.iter().all(|hits| (362..=396).contains(hits)), "{hits:?}");
}
