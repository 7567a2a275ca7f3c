use super::*;
use crate::catalog::{CATALOG, find};

fn resolve(overrides: &Overrides) -> Result<Experiment> {
    Experiment::resolve(&find("quickstart").unwrap(), overrides)
}

fn set(assignments: &[&str]) -> Overrides {
    Overrides {
        set: assignments.iter().map(|text| (*text).to_owned()).collect(),
        ..Overrides::default()
    }
}

#[track_caller]
fn check_refused(assignment: &str, expected: &str) {
    let message = format!("{:#}", resolve(&set(&[assignment])).unwrap_err());
    assert!(message.contains(expected), "{assignment}: {message}");
}

#[test]
fn every_experiment_resolves_at_every_scale_and_survives_its_own_toml() {
    for entry in CATALOG {
        for scale in [Scale::Smoke, Scale::Small, Scale::Paper] {
            let experiment =
                Experiment::resolve(entry, &Overrides { scale, ..Overrides::default() }).unwrap();
            let text = toml::to_string(&experiment).unwrap();
            assert_eq!(
                Experiment::parse(&text).unwrap(),
                experiment,
                "{} at {scale:?}",
                entry.name
            );
        }
    }
}

#[test]
fn what_an_older_version_wrote_is_said_to_be_that() {
    let experiment =
        Experiment::resolve(&find("phi3-quantize").unwrap(), &Overrides::default()).unwrap();
    let mut table: Table = toml::to_string(&experiment).unwrap().parse().unwrap();
    table.remove("timing").unwrap(); // as runs were before there were turns
    let error = Experiment::parse(&table.to_string()).unwrap_err();
    assert_eq!(
        crate::cli::explain(&error),
        "it was written by an older version of this program, or changed since; run the experiment again: missing field `timing`"
    );
    // A value that cannot be is no sign of that.
    let mut table: Table = toml::to_string(&experiment).unwrap().parse().unwrap();
    table.insert("threads".to_owned(), Value::Integer(0));
    let error = Experiment::parse(&table.to_string()).unwrap_err();
    assert_eq!(crate::cli::explain(&error), "threads must be at least 1, got 0");
}

#[test]
fn every_number_of_a_claim_says_where_it_comes_from() {
    for entry in CATALOG {
        for line in entry.toml.lines().filter(|line| line.starts_with("seed_sd")) {
            assert!(line.contains("# ours") || line.contains("# paper"), "{}: {line}", entry.name);
        }
    }
}

#[test]
fn arms_start_from_the_base_and_keep_their_own() {
    let Body::LengthExtrapolation(body) =
        resolve(&set(&["arms.rope.training.optimiser.lr=0.5"])).unwrap().body
    else {
        panic!("another kind")
    };
    let arm = |name: &str| body.arms.iter().find(|arm| arm.name == name).unwrap();
    assert_eq!(arm("rope").training.optimiser.lr, 0.5);
    assert_ne!(arm("xpos").training.optimiser.lr, 0.5);
    assert_eq!(arm("rope").model.d_model, arm("xpos").model.d_model);
    assert_ne!(arm("rope").model.positions, arm("xpos").model.positions);
}

#[test]
fn the_users_text_replaces_the_embedded_one() {
    let overrides =
        Overrides { data: vec!["a.txt".to_owned()], seeds: Some(7), ..Overrides::default() };
    let experiment = resolve(&overrides).unwrap();
    assert_eq!(experiment.data.embedded, None);
    assert!(experiment.data.paths[0].is_absolute() && experiment.data.paths[0].ends_with("a.txt"));
    assert_eq!(experiment.seeds, 7);
}

#[test]
fn mistakes_are_refused_by_name() {
    check_refused("seeds=0", "seeds must be from 1 to 10000, got 0");
    check_refused(
        "evaluation.ratios=[2, 1]",
        "evaluation.ratios must begin with 1 and ascend, got [2, 1]",
    );
    check_refused("evaluation.rations=[1]", "unknown field `rations`");
    check_refused("arms.rope.model.n_haeds=2", "unknown field `n_haeds`");
    check_refused("sedes=3", "there is no setting `sedes`; there are: kind, name");
    check_refused(
        "data.validation_fraction=1.5",
        "data.validation_fraction must lie between 0 and 1, got 1.5",
    );
    check_refused(
        "claims.rope-degrades.a.arm=alibi",
        "claim `rope-degrades`: it measures the arm `alibi`, which does not exist",
    );
    check_refused(
        "claims.rope-degrades.rule.confidence=2",
        "claim `rope-degrades`: `confidence` must be between 0.5 and 1",
    );
    check_refused("seeds=many", "seeds: invalid type: string \"many\", expected u64");
    check_refused("minutes=nan", "minutes must be positive");
    check_refused("arms.rope.training.steps=many", "arms[1].training.steps: invalid type");
}

#[track_caller]
fn check_tuned_refused(assignments: &[&str], expected: &str) {
    let entry = find("length-extrapolation").unwrap();
    let message = format!("{:#}", Experiment::resolve(&entry, &set(assignments)).unwrap_err());
    assert_eq!(message, expected, "{assignments:?}");
}

#[test]
fn mistakes_in_tuning_are_refused_by_name() {
    check_tuned_refused(
        &["tuning.learning_rates=[]"],
        "tuning.learning_rates is empty; leave `[tuning]` away to train without tuning",
    );
    check_tuned_refused(
        &["tuning.learning_rates=[4e-3, 1e-3]"],
        "tuning.learning_rates must be positive and ascend, got [0.004, 0.001]",
    );
    check_tuned_refused(
        &["tuning.learning_rates=[0.0, 1e-3]"],
        "tuning.learning_rates must be positive and ascend, got [0.0, 0.001]",
    );
    check_tuned_refused(
        &["tuning.n_tokens=100"],
        "tuning.n_tokens must hold a sequence of 128 tokens and its target, got 100",
    );
    check_tuned_refused(
        &["tuning.steps=120"],
        "tuning.steps must be above the 120 warm-up steps of `none`, got 120",
    );
}

#[test]
fn mistakes_in_a_sweep_are_refused_by_name() {
    check_tuned_refused(&["sweep.arm=xops"], "sweep.arm: there is no arm `xops`");
    check_tuned_refused(&["sweep.arm=rope"], "sweep.arm: `rope` has no xPos positions");
    check_tuned_refused(
        &["sweep.seeds=0"],
        "sweep.seeds must be at least 1, got 0; leave `[sweep]` away to do without",
    );
    check_tuned_refused(&["sweep.gammas=[-0.2]"], "sweep.gammas must be positive, got -0.2");
}

#[test]
fn mistakes_in_a_claim_are_refused_by_name() {
    let of = |assignment: &str| format!("claims.rope-degrades.a.{assignment}");
    check_tuned_refused(
        &[&of("arm=rop")],
        "claim `rope-degrades`: it measures the arm `rop`, which does not exist",
    );
    check_tuned_refused(
        &[&of("series=nll/window")],
        "claim `rope-degrades`: it measures the series `nll/window`; there are: nll/causal, nll/bca, resolution/causal, \
         resolution/bca",
    );
    check_tuned_refused(
        &[&of("at=3")],
        "claim `rope-degrades`: it measures at 3, which is not among evaluation.ratios",
    );
    check_tuned_refused(
        &["claims.resolution-predicts-loss.a.series=pearson"],
        "claim `resolution-predicts-loss`: `all-arms` has the series \
         `spearman/resolution-added-loss` and `spearman/resolution-added-loss-within-length`, got `pearson`",
    );
    check_tuned_refused(
        &["evaluation.resolution_ratios=[1]"],
        "claim `resolution-predicts-loss`: `all-arms` needs evaluation.resolution_ratios above 1",
    );
    check_tuned_refused(
        &["arms.none.name=all-arms"],
        "an arm cannot be called `all-arms`: that is what claims call all of them",
    );
}

#[test]
fn what_would_fail_in_a_worker_is_refused_before_the_run() {
    check_refused("model.n_heads=3", "arms.xpos.model: ");
    check_refused("model.n_heads=0", "n_heads");
    check_refused("model.d_model=-64", "d_model");
    check_refused("training.micro_batch_size=0", "arms.xpos.training: ");
    check_refused("training.optimiser.lr=-1", "optimiser.lr");
    check_refused("samples.top_p=2", "samples: top_p");
    check_refused("samples.prompt_tokens=0", "samples.prompt_tokens must be positive, got 0");
}

#[test]
fn an_arms_name_is_safe_in_a_path_and_unique() {
    check_refused(
        "arms.xpos.name=../../esc",
        "an arm's name is made of letters, digits, - and _, got `../../esc`",
    );
    check_refused("arms.xpos.name=rope", "two arms are called `rope`");
}

#[test]
fn a_base_setting_that_every_arm_replaces_is_refused() {
    check_refused(
        "model.norm=pre",
        "every arm has its own `model.norm`; set it with arms.NAME.model.norm=",
    );
}

#[test]
fn the_command_that_led_here_can_be_typed_again() {
    let data = vec!["o'brien.txt".to_owned()];
    let set = vec!["root_seed=7".to_owned(), "evaluation.ratios=[1, 2, 4, 8]".to_owned()];
    let overrides =
        Overrides { scale: Scale::Smoke, seeds: Some(2), data, set, ..Overrides::default() };
    let words = resolve(&overrides).unwrap().arguments.join(" ");
    let expected = r"--scale smoke --seeds 2 --data 'o'\''brien.txt' --set root_seed=7 --set 'evaluation.ratios=[1, 2, 4, 8]'";
    assert_eq!(words, expected);
}
