use expect_test::{Expect, expect};

use super::*;
use crate::schedule::DecayShape;

fn sound() -> TrainConfig {
    serde_json::from_str(
        r#"{"seq_len": 8, "batch_size": 4, "micro_batch_size": 2, "steps": 10, "optimiser": {"lr": 0.01}}"#,
    )
    .unwrap()
}

fn check(change: impl FnOnce(&mut TrainConfig), expected: Expect) {
    let mut config = sound();
    config.validate().unwrap();
    change(&mut config);
    expected.assert_eq(&config.validate().unwrap_err().to_string());
}

#[test]
fn each_field_out_of_range_is_refused_by_name() {
    check(|c| c.seq_len = 0, expect!["seq_len must be positive, got 0"]);
    check(|c| c.batch_size = 0, expect!["batch_size must be positive, got 0"]);
    check(
        |c| c.micro_batch_size = 3,
        expect!["micro_batch_size must be a divisor of batch_size (4), got 3"],
    );
    check(
        |c| c.micro_batch_size = 0,
        expect!["micro_batch_size must be a divisor of batch_size (4), got 0"],
    );
    check(|c| c.steps = 0, expect!["steps must be positive, got 0"]);
    check(
        |c| c.optimiser.lr = f64::NAN,
        expect!["optimiser.lr must be finite and above 0, got NaN"],
    );
    check(
        |c| c.optimiser.beta1 = 1.0,
        expect!["optimiser.beta1 must be at least 0 and below 1, got 1"],
    );
    check(
        |c| c.optimiser.beta2 = -0.1,
        expect!["optimiser.beta2 must be at least 0 and below 1, got -0.1"],
    );
    check(|c| c.optimiser.eps = 0.0, expect!["optimiser.eps must be finite and above 0, got 0"]);
    check(
        |c| c.optimiser.weight_decay = -1.0,
        expect!["optimiser.weight_decay must be finite and at least 0, got -1"],
    );
    check(|c| c.warmup_steps = 10, expect!["warmup_steps must be below steps (10), got 10"]);
    check(
        |c| c.schedule = Schedule::Cosine { final_fraction: 1.5 },
        expect!["schedule.final_fraction must be within 0 and 1, got 1.5"],
    );
    let polynomial = Schedule::Polynomial { power: 0.0, final_fraction: 0.0 };
    check(|c| c.schedule = polynomial, expect!["schedule.power must be finite and above 0, got 0"]);
    let wsd = |decay_steps| Schedule::WarmupStableDecay {
        decay_steps,
        final_fraction: 0.0,
        shape: DecayShape::Linear,
    };
    check(
        |c| (c.warmup_steps, c.schedule) = (4, wsd(7)),
        expect!["schedule.decay_steps must be within 1 and steps - warmup_steps (6), got 7"],
    );
    check(|c| c.clip_norm = Some(0.0), expect!["clip_norm must be finite and above 0, got 0"]);
    check(|c| c.loss_chunk_tokens = 0, expect!["loss_chunk_tokens must be positive, got 0"]);
    check(|c| c.keep_checkpoints = 0, expect!["keep_checkpoints must be positive, got 0"]);
    check(|c| c.max_loss = f64::INFINITY, expect!["max_loss must be finite and above 0, got inf"]);
    check(|c| c.peak_flops = Some(-1.0), expect!["peak_flops must be finite and above 0, got -1"]);
}

#[test]
fn an_unknown_field_is_refused() {
    let json = r#"{"seq_len": 8, "batch_size": 4, "micro_batch_size": 2, "steps": 10,
        "optimiser": {"lr": 0.01, "momentum": 0.9}}"#;
    let error = serde_json::from_str::<TrainConfig>(json).unwrap_err().to_string();
    assert!(error.contains("unknown field `momentum`"), "{error}");
}

#[test]
fn a_config_survives_json_bit_for_bit() {
    let mut config = sound();
    config.optimiser.lr = 0.1 + 0.2;
    config.schedule = Schedule::Polynomial { power: 1.0 / 3.0, final_fraction: 1e-17 };
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
}

#[test]
fn the_deciding_fields_have_dotted_paths_and_leave_out_what_changes_no_number() {
    let mut config = sound();
    config.schedule = Schedule::Cosine { final_fraction: 0.25 };
    let paths = config.fields().unwrap();
    assert_eq!(paths["optimiser.lr"], 0.01);
    assert_eq!(paths["schedule.cosine.final_fraction"], 0.25);
    config.keep_checkpoints = 9;
    config.checkpoint_every = 9;
    config.peak_flops = Some(1e12);
    assert_eq!(config.fields().unwrap(), paths);
}
