//! Ways of training that must agree: micro-batches, precisions, and the loss written out in full.

use forerun_train::{
    Batch, EvalSet, Outcome, Pass, Precision, TrainConfig, accumulate_gradients, train,
};
use tch::{Device, Kind, Tensor};

use crate::tiny::{Noisy, Recorder, SEQ_LEN, Tiny, VOCAB, config, exclusive};
use forerun_train::Model;

const TRAIN: Pass = Pass { train: true, activation_checkpointing: false };

/// The loss curve of 60 updates of eight sequences.
fn curve(padded: bool, change: impl FnOnce(&mut TrainConfig)) -> Vec<f64> {
    let mut config = config();
    (config.batch_size, config.micro_batch_size, config.steps) = (8, 8, 60);
    config.checkpoint_every = 0;
    change(&mut config);
    let (model, folder) = (Tiny::new(1, 0.0), tempfile::tempdir().unwrap());
    let mut recorder = Recorder::default();
    let mut data = Noisy { padded, ..Noisy::default() };
    let outcome = train(&model, &mut data, None, &config, folder.path(), &mut recorder).unwrap();
    assert!(matches!(outcome, Outcome::Finished { step: 60, .. }), "{outcome:?}");
    assert!(recorder.losses[59] < 0.75 * recorder.losses[0], "it learns: {:?}", recorder.losses);
    recorder.losses
}

/// Largest and mean difference of two curves; the mean shows a small bias that the largest hides.
fn residual(a: &[f64], b: &[f64]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let largest = differences.iter().fold(0.0_f64, |most, d| most.max(d.abs()));
    (largest, differences.iter().sum::<f64>() / differences.len() as f64)
}

#[test]
fn a_batch_of_eight_equals_four_micro_batches_of_two() {
    let _turn = exclusive();
    for padded in [false, true] {
        let whole = curve(padded, |_| {});
        for micro_batch_size in [1, 2, 4] {
            let parts = curve(padded, |c| c.micro_batch_size = micro_batch_size);
            let (largest, mean) = residual(&whole, &parts);
            // f32 sums in another order: 1e-7 relative a step, amplified by 60 updates of Adam.
            assert!(largest < 2e-5, "padded {padded}, {micro_batch_size}: {largest}");
            assert!(mean.abs() < 4e-6, "padded {padded}, {micro_batch_size}: {mean}");
        }
    }
}

#[test]
fn padding_changes_the_curve_and_the_chunk_size_does_not() {
    let _turn = exclusive();
    let chunked = curve(true, |_| {});
    let (largest, _) = residual(&chunked, &curve(true, |c| c.loss_chunk_tokens = 4096));
    assert!(largest < 2e-5, "{largest}");
    let (largest, _) = residual(&chunked, &curve(false, |_| {}));
    assert!(largest > 1e-2, "{largest}");
}

#[test]
fn bf16_follows_f32_and_is_not_f32() {
    let _turn = exclusive();
    let f32s = curve(false, |_| {});
    let bf16s = curve(false, |c| c.precision = Precision::Bf16);
    let (largest, mean) = residual(&f32s, &bf16s);
    // bf16 has 8 bits: 0.4 % of logits of a few units, and updates that drift apart.
    assert!(largest < 0.08 && mean.abs() < 0.02, "{largest} {mean}");
    assert!(largest > 1e-5, "autocast did nothing: {largest}");
}

/// Token-weighted mean loss from full logits in f64, its gradient by libtorch.
fn oracle(model: &Tiny, batch: &Batch) -> (f64, Vec<Tensor>) {
    let hidden = model.hidden(&batch.inputs, TRAIN).unwrap();
    let logits =
        (hidden.matmul(&model.head().transpose(0, 1)) * model.logit_scale()).to_kind(Kind::Double);
    let log_probs = logits.log_softmax(-1, Kind::Double).view([-1, VOCAB]);
    let targets = batch.targets.view([-1]);
    let counted = targets.ne(-100).nonzero().view([-1]);
    let picked = log_probs.index_select(0, &counted);
    let loss = -picked
        .gather(1, &targets.index_select(0, &counted).view([-1, 1]), false)
        .mean(Kind::Double);
    loss.backward();
    let gradients = model.parameters().iter().map(|p| p.tensor.grad().copy()).collect();
    (loss.double_value(&[]), gradients)
}

#[test]
fn accumulated_gradients_equal_those_of_the_mean_over_all_tokens() {
    let _turn = exclusive();
    for padded in [false, true] {
        let model = Tiny::new(2, 0.0);
        let mut data = Noisy { padded, ..Noisy::default() };
        let batch = Batch::fetch(&mut data, 3, 4, SEQ_LEN, Device::Cpu).unwrap();
        let (expected, gradients) = oracle(&model, &batch);
        model.parameters().zero_grad();
        let loss = accumulate_gradients(&model, &batch, &config()).unwrap().double_value(&[0]);
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
        for (parameter, expected) in model.parameters().iter().zip(gradients) {
            let error = (parameter.tensor.grad() - expected).abs().max().double_value(&[]);
            // Gradients are of order 0.1; f32 against f64 from the logits on.
            assert!(error < 1e-6, "{}: {error}", parameter.name);
        }
    }
}

#[test]
fn activation_checkpointing_is_asked_for_in_training_only_and_changes_no_result() {
    let _turn = exclusive();
    let run = |activation_checkpointing| {
        let config = TrainConfig { activation_checkpointing, ..config() };
        let (model, mut held_out) = (Tiny::new(1, 0.3), Noisy::default());
        let eval = EvalSet { data: &mut held_out, n_rows: 3 };
        let (folder, mut recorder) = (tempfile::tempdir().unwrap(), Recorder::default());
        let mut data = Noisy::default();
        train(&model, &mut data, Some(eval), &config, folder.path(), &mut recorder).unwrap();
        (recorder.seen, model.bits(), model.passes.take())
    };
    let (plain, again) = (run(false), run(true));
    // The same operations on the same numbers, with the same dropout: on the CPU equal to the last bit.
    assert_eq!((plain.0, plain.1), (again.0, again.1));
    let (training, evaluation) = plain.2.split_at(24);
    assert!(training.iter().all(|&pass| pass == TRAIN));
    assert_eq!(evaluation, [Pass::default(); 2], "three rows in pieces of two");
    let saving = Pass { activation_checkpointing: true, ..TRAIN };
    assert!(again.2[..24].iter().all(|&pass| pass == saving), "twelve updates of two pieces");
    assert_eq!(again.2[24..], *evaluation);
}
