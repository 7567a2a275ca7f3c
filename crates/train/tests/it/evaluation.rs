//! Evaluation: the plain mean, and no trace left in training.

use forerun_train::{EvalSet, Model, Pass, Precision, Sequences, TrainConfig, evaluate, train};
use tch::{Kind, Tensor};

use crate::tiny::{Noisy, Recorder, SEQ_LEN, Seen, Tiny, VOCAB, config, exclusive};

/// One row at a time, full logits, f64.
fn oracle(model: &Tiny, padded: bool, n_rows: usize) -> (f64, u64) {
    let mut data = Noisy { padded, ..Noisy::default() };
    let (mut sum, mut count) = (0.0, 0);
    for row in 0..n_rows {
        let tokens = Vec::<i64>::try_from(data.rows(row as u64, 1).unwrap().view([-1])).unwrap();
        let inputs: Vec<i64> = tokens[..SEQ_LEN as usize].iter().map(|&t| t.max(0)).collect();
        let hidden =
            model.hidden(&Tensor::from_slice(&inputs).view([1, -1]), Pass::default()).unwrap();
        let logits =
            (hidden.matmul(&model.head().transpose(0, 1)) * model.logit_scale()).view([-1, VOCAB]);
        let log_probs = logits.log_softmax(-1, Kind::Double);
        for (position, &target) in tokens[1..].iter().enumerate().filter(|(_, t)| **t >= 0) {
            sum -= log_probs.double_value(&[position as i64, target]);
            count += 1;
        }
    }
    (sum / count as f64, count)
}

#[test]
fn it_is_the_mean_over_tokens_for_any_split_into_micro_batches() {
    let _turn = exclusive();
    let model = Tiny::new(5, 0.9); // dropout must be off
    for padded in [false, true] {
        let (expected, count) = oracle(&model, padded, 7);
        for micro_batch_size in [1, 3, 7, 100] {
            let config = TrainConfig { micro_batch_size, ..config() };
            let mut data = Noisy { padded, ..Noisy::default() };
            let mut set = EvalSet { data: &mut data, n_rows: 7 };
            let found = evaluate(&model, &mut set, &config).unwrap();
            assert_eq!(found.n_tokens, count);
            assert!((found.loss - expected).abs() < 1e-6, "{} {expected}", found.loss);
        }
    }
}

#[test]
fn bf16_stays_close() {
    let _turn = exclusive();
    let (model, mut data) = (Tiny::new(5, 0.0), Noisy::default());
    let (expected, _) = oracle(&model, false, 7);
    let config = TrainConfig { precision: Precision::Bf16, ..config() };
    let found = evaluate(&model, &mut EvalSet { data: &mut data, n_rows: 7 }, &config).unwrap();
    // Logits of a few units with 8 bits each.
    assert!((found.loss - expected).abs() < 0.02, "{} {expected}", found.loss);
}

#[test]
fn an_empty_set_is_refused() {
    let _turn = exclusive();
    let mut data = Noisy::default();
    let mut set = EvalSet { data: &mut data, n_rows: 0 };
    let error = evaluate(&Tiny::new(5, 0.0), &mut set, &config()).unwrap_err();
    assert_eq!(error.to_string(), "n_rows must be positive, got 0");
}

#[test]
fn evaluating_does_not_change_the_course_of_training() {
    let _turn = exclusive();
    let steps = |eval_every: u64, evaluated: bool| {
        let (model, folder) = (Tiny::new(1, 0.3), tempfile::tempdir().unwrap());
        let config = TrainConfig { eval_every, ..config() };
        let (mut data, mut held_out) = (Noisy::default(), Noisy::default());
        let eval = evaluated.then_some(EvalSet { data: &mut held_out, n_rows: 5 });
        let mut recorder = Recorder::default();
        train(&model, &mut data, eval, &config, folder.path(), &mut recorder).unwrap();
        let all = recorder.seen.len();
        recorder.seen.retain(|seen| matches!(seen, Seen::Step { .. }));
        (recorder.seen, all)
    };
    let (never, twelve) = steps(0, false);
    let (always, twenty_four) = steps(1, true);
    let (at_the_end, thirteen) = steps(0, true);
    assert_eq!((twelve, twenty_four, thirteen), (12, 24, 13));
    assert_eq!(never, always);
    assert_eq!(never, at_the_end);
}
