mod law;
pub(super) mod world;

use std::collections::BTreeSet;

use super::*;
use crate::catalog;
use crate::cell::Task;
use crate::config::{Body, Overrides, Scale};
use crate::data::{Input, Part, Prepared};
use crate::plan::{Plan, Rate as Speed};
use crate::store::Store;
use crate::train_stack::LearningRate;

pub(super) fn resolve(
    name: &str,
    scale: Scale,
    changes: &[&str],
) -> Result<(Experiment, HorizonConfig)> {
    let set = changes.iter().map(|&change| change.to_owned()).collect();
    let overrides = Overrides { scale, set, ..Overrides::default() };
    let experiment = Experiment::resolve(&catalog::find(name)?, &overrides)?;
    let Body::LrHorizon(body) = experiment.body.clone() else { bail!("another kind") };
    Ok((experiment, body))
}

pub(super) fn small(changes: &[&str]) -> (Experiment, HorizonConfig) {
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
    check(
        "base",
        "loss",
        0.0,
        "it measures the series `loss`; there are: optimum, moved-from/, exponent",
    );
    check("base", "moved-from/wide", 0.25, "must name an arm other than `base`");
    check("base", "moved-from/base", 0.25, "must name an arm other than `base`");
    check("base", "moved-from/narrow", 0.5, "where `narrow` is not trained");
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
    check("external.diverged_status=[0]", "diverged_status must not have 0");
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
