use std::collections::BTreeSet;

use forerun_runs::seed::Seed;
use forerun_runs::verdict::Verdict;
use rand::Rng;

use super::spread::Spread;
use super::valley::{HELD_OUT_LOSS, Valleys};
use super::*;
use crate::catalog;
use crate::cell::Task;
use crate::config::{Body, Overrides, Scale};
use crate::data::{Input, Part, Prepared};
use crate::outcome::{Curve, judge_all};
use crate::plan::{Plan, Rate as Speed};
use crate::store::Store;
use crate::train_stack::LearningRate;

fn resolve(name: &str, scale: Scale, changes: &[&str]) -> Result<(Experiment, HorizonConfig)> {
    let set = changes.iter().map(|&change| change.to_owned()).collect();
    let overrides = Overrides { scale, set, ..Overrides::default() };
    let experiment = Experiment::resolve(&catalog::find(name)?, &overrides)?;
    let Body::LrHorizon(body) = experiment.body.clone() else { bail!("another kind") };
    Ok((experiment, body))
}

fn small(changes: &[&str]) -> (Experiment, HorizonConfig) {
    resolve("lr-horizon-width", Scale::Small, changes).unwrap()
}

#[test]
fn a_place_is_read_back_as_it_was_written() {
    for rate in [Rate::At(0.00283), Rate::At(1.0 / 3.0), Rate::Predicted, Rate::Carried] {
        for part in [0.0625, 1.0, 1.0 / 3.0] {
            let place = Place { arm: "mup-narrow".to_owned(), part, rate };
            assert_eq!(place.to_string().parse::<Place>().unwrap(), place);
        }
    }
    for text in ["base", "base/1", "base/x/0.1", "base/1/0.1/3", "base/1/best"] {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
}

#[track_caller]
fn check_refused(name: &str, change: &str, reason: &str) {
    let error = format!("{:#}", resolve(name, Scale::Small, &[change]).unwrap_err());
    assert!(error.contains(reason), "{change}: {error}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let check = |change, reason| check_refused("lr-horizon-width", change, reason);
    check("horizons.held_out=0", "horizons.held_out must be positive, got 0");
    check("horizons.fitted=[0.5,0.25,0.125]", "horizons.fitted must be three or more parts");
    check("horizons.fitted=[0.25,0.5,1.0]", "horizons.fitted must be three or more parts");
    check("horizons.fitted=[0.25,0.5]", "horizons.fitted must be three or more parts");
    check(
        "horizons.carried_from=0.3",
        "horizons.carried_from must be one of horizons.fitted, got 0.3",
    );
    check("sweep.learning_rates=[1e-3,2e-3]", "sweep.learning_rates must be 3 or more");
    check("sweep.held_out_learning_rates=[]", "sweep.held_out_learning_rates must be 1 or more");
    check("sweep.warmup_share=1.0", "sweep.warmup_share must be at least 0 and below 1, got 1");
    check("sweep.loss_rows=0", "sweep.loss_rows");
    check("sweep.bootstrap=5", "sweep.bootstrap must be at least 100 draws, got 5");
    check("sweep.parabola.divergence=0.0", "sweep.parabola.divergence");
    check("sweep.parabola.window={around=0}", "sweep.parabola.window.around");
    check("arms.base.horizons=[0.5]", "the first arm is trained at all of them");
    check("arms.mup.horizons=[0.5,0.25]", "arms.mup: horizons must be parts");
    check("arms.mup.learning_rates=[1e-3]", "arms.mup: learning_rates must be 3 or more");
    check("arms.mup.training.batch_size=32", "the same tokens in a batch");
    check("arms.mup.model.n_heads=3", "arms.mup: model");
}

#[test]
fn a_claim_about_what_is_not_measured_is_refused() {
    let (mut experiment, body) = small(&[]);
    let mut check = |arm: &str, series: &str, at: f64, reason: &str| {
        let claim = &mut experiment.claims[0];
        (claim.a.arm, claim.a.series, claim.a.at) = (arm.to_owned(), series.to_owned(), at);
        let error = format!("{:#}", body.validate(&experiment).unwrap_err());
        assert!(error.contains(reason) && error.contains("claim `optimum-falls"), "{error}");
    };
    check("wide", "optimum", 0.25, "the arm `wide`, which does not exist");
    check("base", "loss", 0.0, "it measures the series `loss`; there are: optimum, exponent");
    check("base", "exponent", 1.0, "`at` must be 0, got 1");
    check("base", "loss/best", 0.5, "`at` must be 1, got 0.5");
    check("mup", "exponent", 0.0, "`exponent` is measured on the first arm alone");
    check("mup", "optimum", 0.5, "where `mup` is not trained");
}

#[test]
fn an_external_command_is_checked_before_anything_runs() {
    let check = |change, reason| check_refused("lr-horizon-external", change, reason);
    check("external.command=[]", "command is empty");
    check("external.command=['x','{steps}','{seed}','{out}']", "command lacks {lr}");
    check("external.command=['x','{lr}','{seed}','{out}']", "command lacks {tokens} or {steps}");
    check("external.command=['x','{lr}','{steps}','{out}']", "command lacks {seed}: 4 seeds");
    check("external.command=['x','{lr}','{steps}','{seed}']", "must both have {out}");
    check("external.metrics='metrics.json'", "must both have {out}");
    check(
        "external.metrics='{out}/{name}'",
        "there is no {name}; there are: {arm}, {device}, {lr}",
    );
    check("external.command=['x','{lr','{out}']", "a placeholder is a name in braces");
    check("external.timeout_secs=0.0", "timeout_secs must be above 0");
    check("external.batch_tokens=0", "batch_tokens must be positive");
    check("external.tokens_per_sec=0.0", "tokens_per_sec must be positive");
    check("arms.base.values={lr='1'}", "values.lr: {lr} has a meaning already");
    check("external.loss=''", "loss must name a key");
    check("external.no_such=1", "external");
    check_refused(
        "lr-horizon",
        "external={command=['x'], metrics='y'}",
        "an external command has its own",
    );
    // One seed needs no placeholder, and without tokens of a batch there are no steps.
    let one = ["external.command=['x','{lr}','{tokens}','{out}']", "seeds=1"];
    resolve("lr-horizon-external", Scale::Small, &one).unwrap();
    let (_, body) = resolve("lr-horizon-external", Scale::Small, &[]).unwrap();
    let external = ExternalConfig { batch_tokens: None, ..body.external.clone().unwrap() };
    let error = format!("{:#}", external.validate(&body, 4).unwrap_err());
    assert!(error.contains("{steps} needs batch_tokens"), "{error}");
}

#[test]
fn paths_of_a_command_mean_the_same_from_anywhere() {
    let (_, body) = resolve("lr-horizon-external", Scale::Small, &[]).unwrap();
    let external = body.external.unwrap();
    assert!(external.directory.is_absolute());
    assert!(external.files[0].is_absolute() && external.files[0].ends_with("external/train.py"));
}

fn prepared() -> Prepared {
    let part = |name: &str, n_tokens| {
        let input = Input { path: name.into(), hash: name.to_owned(), tokens: None };
        Part { input, n_tokens }
    };
    Prepared {
        vocab_size: 257,
        tokenizer: None,
        train: part("train", 3_000_000),
        validation: part("validation", 100_000),
        sources: Vec::new(),
        groups: Vec::new(),
    }
}

#[test]
fn horizons_are_whole_updates() {
    let (_, body) = small(&["horizons.held_out=4_000_000"]);
    assert_eq!(body.steps(1.0), Some(3906)); // of 1,024 tokens
    assert_eq!(body.n_tokens(1.0), 3906.0 * 1024.0);
    assert_eq!(body.n_tokens(0.0625), 244.0 * 1024.0);
    assert_eq!((body.end(0.0625), body.nominal(0.0625)), (244.0, 250_000.0));
    let (_, body) = resolve("lr-horizon-external", Scale::Small, &[]).unwrap();
    assert_eq!(body.end(0.5), body.n_tokens(0.5));
}

#[test]
fn the_plan_has_a_stack_for_every_horizon_and_seed_and_what_the_law_says_after_them() {
    let (experiment, body) = small(&["seeds=3"]);
    let plan = Plan::new(&experiment, &prepared()).unwrap();
    let stacks: Vec<_> = plan
        .cells
        .iter()
        .map(|planned| match &planned.cell.task {
            Task::TrainStack(task) => (planned, task),
            other => panic!("{other:?}"),
        })
        .collect();
    let keys: BTreeSet<&String> = plan.cells.iter().map(|planned| &planned.key).collect();
    assert_eq!(keys.len(), plan.cells.len(), "no two cells are the same");
    let others: usize = body.arms[1..].iter().map(|arm| body.parts(arm).len()).sum();
    assert_eq!(stacks.len(), 3 * 4 + 3 + 2 + 3 * others); // fitted, held out, chosen by twos, other arms
    let (waiting, free): (Vec<_>, Vec<_>) =
        stacks.iter().partition(|(planned, _)| !planned.cell.needs.is_empty());
    assert_eq!(waiting.iter().map(|(_, task)| task.members.len()).collect::<Vec<_>>(), [4, 2]);
    let fitted: Vec<&String> = plan.cells[..12].iter().map(|planned| &planned.key).collect();
    assert_eq!(waiting[0].0.cell.needs.iter().collect::<Vec<_>>(), fitted);
    for (planned, task) in &waiting {
        let rates: Vec<&LearningRate> = task.members.iter().map(|member| &member.lr).collect();
        assert!(rates.iter().all(|lr| matches!(lr, LearningRate::FromSweep(_))), "{rates:?}");
        assert_eq!(planned.cell.members[1]["arm"], "base/1/carried");
    }
    for (planned, task) in free {
        let part = planned.cell.tags["horizon"].as_f64().unwrap();
        assert_eq!(Some(task.training.steps), body.steps(part));
        assert_eq!(task.training.warmup_steps, (task.training.steps as f64 * 0.05).round() as u64);
    }
    // One seed is one initialisation and one order of data everywhere.
    let seed_of = |index: usize| stacks[index].1.members[0].seed;
    assert_eq!((seed_of(0), seed_of(0)), (seed_of(3), seed_of(12)));
    assert_ne!(seed_of(0), seed_of(1));
}

#[test]
fn the_experiment_on_width_finds_every_cell_of_the_plain_one() {
    for scale in [Scale::Smoke, Scale::Small, Scale::Paper] {
        let keys = |name: &str| -> BTreeSet<String> {
            let (experiment, _) = resolve(name, scale, &[]).unwrap();
            let plan = Plan::new(&experiment, &prepared()).unwrap();
            plan.cells.into_iter().map(|planned| planned.key).collect()
        };
        let (plain, width) = (keys("lr-horizon"), keys("lr-horizon-width"));
        assert!(plain.is_subset(&width) && plain.len() < width.len(), "{scale:?}");
    }
}

#[test]
fn an_external_plan_has_a_cell_for_every_training() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let directory = format!("external.directory='{here}'");
    let (experiment, body) = resolve("lr-horizon-external", Scale::Small, &[&directory]).unwrap();
    let plan = Plan::new(&experiment, &prepared()).unwrap();
    let seeds = experiment.seeds as usize;
    let rates = 4 * body.sweep.learning_rates.len() + body.sweep.held_out_learning_rates.len() + 2;
    assert_eq!(plan.cells.len(), seeds * rates);
    let Task::External(first) = &plan.cells[0].cell.task else { panic!("another task") };
    assert_eq!(first.values["steps"], "2048");
    assert_eq!(first.expected_secs, Some(524_288.0 / 40_000.0));
    assert!(first.values["seed"].parse::<u32>().is_ok());
    assert_eq!(plan.cells[0].cell.inputs.len(), 1, "the script is part of the key");

    let rate = Speed { flops_per_sec: 1e9, n_cells: 0 };
    let describe = |plan: &Plan| {
        let told = plan.describe(&experiment, &Store::new("nowhere"), 2, rate).unwrap();
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let told = describe(&plan);
    assert!(told.contains("120 external runs left at the speed that"), "{told}");
    let mut silent = plan.clone();
    for planned in &mut silent.cells {
        let Task::External(task) = &mut planned.cell.task else { panic!("another task") };
        task.expected_secs = None;
    }
    let told = describe(&silent);
    assert!(told.contains("time unknown: 120 external runs left"), "{told}");
}

/// What trainings of a law would leave: a valley around the best rate, whose place and level vary with the seed.
struct World {
    /// The best learning rate at the held-out horizon.
    best: f64,
    exponent: f64,
    curvature: f64,
    /// Spread of each seed's best rate at each horizon, natural logarithm.
    jitter: f64,
    salt: u64,
}

const WORLD: World = World { best: 0.0035, exponent: 0.25, curvature: 0.04, jitter: 0.03, salt: 7 };

impl World {
    fn loss(&self, body: &HorizonConfig, arm: &str, part: f64, seed: u64, lr: f64) -> f64 {
        let mut rng = Seed::new(self.salt).stream(&format!("{arm}/{part}/{seed}"));
        let shift = self.jitter * rng.random_range(-1.0..1.0);
        let horizon = body.n_tokens(part) / body.n_tokens(HELD_OUT);
        let best = self.best * horizon.powf(-self.exponent) * f64::exp(shift);
        let level = 1.6 - 0.15 * horizon.ln() + 0.02 * seed as f64;
        level + self.curvature * (lr / best).ln().powi(2)
    }

    fn curve(&self, body: &HorizonConfig, place: &Place, seed: u64, lr: f64) -> Curve {
        let loss = self.loss(body, &place.arm, place.part, seed, lr);
        // One evaluation on the way, which no valley is made of.
        let points = vec![(1.0, 5.0), (body.end(place.part), loss)];
        Curve { arm: place.to_string(), seed, series: HELD_OUT_LOSS.to_owned(), points }
    }

    /// Everything that an experiment trains.
    fn curves(&self, experiment: &Experiment, body: &HorizonConfig) -> Vec<Curve> {
        let mut curves = Vec::new();
        for seed in 0..experiment.seeds {
            for arm in &body.arms {
                for part in body.parts(arm) {
                    for &lr in body.rates(arm, part) {
                        let place = Place { arm: arm.name.clone(), part, rate: Rate::At(lr) };
                        curves.push(self.curve(body, &place, seed, lr));
                    }
                }
            }
        }
        let valleys = Valleys::new(body, &curves);
        let chosen = [(Rate::Predicted, valleys.predicted), (Rate::Carried, valleys.carried)].map(
            |(rate, lr)| {
                let place = Place { arm: "base".to_owned(), part: HELD_OUT, rate };
                let of = |lr| (0..experiment.seeds).map(move |seed| (seed, lr)).collect::<Vec<_>>();
                (place, lr.map_or_else(Vec::new, of))
            },
        );
        for (place, seeds) in chosen {
            curves.extend(seeds.into_iter().map(|(seed, lr)| self.curve(body, &place, seed, lr)));
        }
        curves
    }
}

fn verdict(experiment: &Experiment, curves: &[Curve], claim: &str) -> (Verdict, String) {
    let all = judge_all(experiment, &[], curves).unwrap();
    let found = all.into_iter().find(|verdict| verdict.name == claim).unwrap();
    (found.judgement.verdict, found.judgement.reason)
}

#[test]
fn a_known_law_is_found_and_foretells_the_held_out_horizon() {
    let (experiment, body) = small(&[]);
    let curves = WORLD.curves(&experiment, &body);
    let valleys = Valleys::new(&body, &curves);
    let predicted = valleys.predicted.unwrap();
    assert!((predicted / WORLD.best).ln().abs() < 0.05, "{predicted}");
    let carried = valleys.carried.unwrap();
    assert!((carried / (WORLD.best * 16_f64.powf(0.25))).ln().abs() < 0.05, "{carried}");
    let exponent = valleys.fitted_law(&valleys.seeds).unwrap().exponent();
    assert!((exponent - WORLD.exponent).abs() < 0.04, "{exponent}");
    for claim in [
        "optimum-falls-with-the-horizon",
        "short-horizons-foretell-the-optimum",
        "predicted-rate-is-near-the-best",
        "predicted-rate-beats-the-carried-one",
        "mup-optimum-holds-across-width", // the arms of this world do not differ
        "mup-optimum-falls-with-the-horizon",
    ] {
        let (verdict, reason) = verdict(&experiment, &curves, claim);
        assert_eq!(verdict, Verdict::Reproduced, "{claim}: {reason}");
    }
    let (moves, reason) = verdict(&experiment, &curves, "standard-optimum-moves-with-width");
    assert_ne!(moves, Verdict::Reproduced, "{reason}");
}

#[test]
fn the_interval_of_a_law_holds_the_truth_and_what_was_drawn() {
    let (experiment, body) = small(&["sweep.bootstrap=200"]);
    let curves = WORLD.curves(&experiment, &body);
    let valleys = Valleys::new(&body, &curves);
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
    let curves = flat.curves(&experiment, &body);
    for claim in ["optimum-falls-with-the-horizon", "mup-optimum-falls-with-the-horizon"] {
        let (verdict, reason) = verdict(&experiment, &curves, claim);
        assert_ne!(verdict, Verdict::Reproduced, "{claim}: {reason}");
    }
}

#[test]
fn a_valley_without_an_optimum_makes_claims_inconclusive_and_says_where() {
    let (experiment, body) = small(&[]);
    // The best rate lies below all that are tried.
    let curves = World { best: 2e-4, ..WORLD }.curves(&experiment, &body);
    let valleys = Valleys::new(&body, &curves);
    assert_eq!((valleys.predicted, valleys.carried), (None, None));
    for claim in ["optimum-falls-with-the-horizon", "predicted-rate-is-near-the-best"] {
        let (verdict, reason) = verdict(&experiment, &curves, claim);
        assert_eq!(verdict, Verdict::Inconclusive, "{claim}: {reason}");
        assert!(reason.contains("2.1 M tokens: the best learning rate lies below"), "{reason}");
    }
    let curved_down = World { curvature: -0.01, ..WORLD }.curves(&experiment, &body);
    let (_, reason) = verdict(&experiment, &curved_down, "short-horizons-foretell-the-optimum");
    assert!(reason.contains("seed 0 at 4.2 M tokens: the losses do not curve upwards"), "{reason}");
}

#[test]
fn a_best_rate_at_the_end_of_what_was_tried_proves_no_small_regret() {
    let (experiment, body) = small(&[]);
    // The law holds up to the fitted horizons; at the held-out one everything gets better towards low rates.
    let mut curves = WORLD.curves(&experiment, &body);
    let valleys = Valleys::new(&body, &curves);
    let (predicted, carried) = (valleys.predicted.unwrap(), valleys.carried.unwrap());
    for curve in &mut curves {
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
    let (verdict, reason) = verdict(&experiment, &curves, "predicted-rate-is-near-the-best");
    assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
    assert!(reason.contains("is the lowest or the highest that was tried"), "{reason}");
}

#[test]
fn seeds_that_diverge_leave_a_rate_out_of_the_means() {
    let (experiment, body) = small(&["sweep.parabola.window='all'"]);
    let mut curves = WORLD.curves(&experiment, &body);
    let whole = Valleys::new(&body, &curves);
    let arm = &body.arms[0];
    let before = whole.optimum(arm, 0.5, &whole.seeds);
    let first = Place { arm: "base".to_owned(), part: 0.5, rate: Rate::At(0.016) }.to_string();
    // One that diverged leaves no last loss, or none at all.
    curves.retain(|curve| curve.arm != first || curve.seed > 1);
    for curve in curves.iter_mut().filter(|curve| curve.arm == first && curve.seed == 2) {
        curve.points.truncate(1);
    }
    let left = Valleys::new(&body, &curves);
    let after = left.optimum(arm, 0.5, &left.seeds);
    let (before, after) = (before.vertex().unwrap(), after.vertex().unwrap());
    assert_eq!((before.n_points, after.n_points), (8, 7));
    assert!((before.ln_x - after.ln_x).abs() < 1e-9, "levels of seeds move no optimum");
}

#[test]
fn intervals_of_many_worlds_hold_the_truth_as_often_as_they_say() {
    if std::env::var_os("RUN_SLOW").is_none() {
        return;
    }
    let (experiment, body) = small(&["sweep.bootstrap=200"]);
    let mut hits = [0, 0];
    for salt in 0..400 {
        let curves = World { salt, ..WORLD }.curves(&experiment, &body);
        let valleys = Valleys::new(&body, &curves);
        let mut rng = Seed::new(salt).stream("draws");
        let found = Spread::new(&valleys, &body.arms[0], &body.horizons.fitted, &mut rng).unwrap();
        let rate = found.rate_at(body.n_tokens(HELD_OUT)).interval.unwrap();
        hits[0] += usize::from(found.exponent().interval.unwrap().contains(WORLD.exponent));
        hits[1] += usize::from(rate.contains(WORLD.best));
    }
    // 380 are expected, give or take 4.4.
    assert!(hits.iter().all(|hits| (362..=396).contains(hits)), "{hits:?}");
}
