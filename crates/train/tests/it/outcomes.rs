//! The ways in which a run ends.

use std::cell::Cell;
use std::ops::ControlFlow;

use forerun_tensors::Parameters;
use forerun_train::{
    BoxError, Checkpoint, Error, Model, Observer, Outcome, Pass, Sequences, StepMetrics,
    TrainConfig, train,
};
use tch::{Device, Kind, Tensor};

use crate::tiny::{Noisy, Recorder, Tiny, config, exclusive};

fn run(
    model: &dyn Model,
    data: &mut dyn Sequences,
    config: &TrainConfig,
    observer: &mut dyn Observer,
) -> Result<Outcome, Error> {
    let folder = tempfile::tempdir().unwrap();
    train(model, data, None, config, folder.path(), observer)
}

#[test]
fn a_huge_learning_rate_diverges_and_leaves_only_sound_checkpoints() {
    let _turn = exclusive();
    let mut config = config();
    config.optimiser.lr = 1e9;
    config.optimiser.weight_decay = 0.0;
    config.clip_norm = None;
    let (folder, mut recorder) = (tempfile::tempdir().unwrap(), Recorder::default());
    let model = Tiny::new(1, 0.0);
    let mut data = Noisy::default();
    let outcome = train(&model, &mut data, None, &config, folder.path(), &mut recorder).unwrap();
    let Outcome::Diverged { step, loss } = outcome else { panic!("{outcome:?}") };
    assert!(step <= 4 && (loss.is_nan() || loss > 30.0), "{outcome:?}");
    assert_eq!(recorder.losses.len() as u64, step - 1, "the bad update is not a measurement");
    assert_eq!(recorder.written.last().copied(), (step > 1).then_some(step - 1));
    // Asked again, it goes on from the last sound update and says the same.
    let again = train(&Tiny::new(1, 0.0), &mut data, None, &config, folder.path(), &mut recorder);
    assert_eq!(format!("{:?}", again.unwrap()), format!("{outcome:?}"));
}

#[test]
fn a_loss_above_the_bound_or_not_a_number_is_a_divergence() {
    let _turn = exclusive();
    let bounded = TrainConfig { max_loss: 0.5, ..config() };
    let outcome =
        run(&Tiny::new(1, 0.0), &mut Noisy::default(), &bounded, &mut Recorder::default());
    let outcome = outcome.unwrap();
    assert!(matches!(outcome, Outcome::Diverged { step: 1, loss } if loss > 1.0), "{outcome:?}");

    let broken = Tiny::new(1, 0.0);
    let _ = tch::no_grad(|| broken.head().shallow_clone().fill_(f64::NAN));
    let outcome = run(&broken, &mut Noisy::default(), &config(), &mut Recorder::default()).unwrap();
    assert!(matches!(outcome, Outcome::Diverged { step: 1, loss } if loss.is_nan()), "{outcome:?}");
}

/// Asks libtorch for an exabyte in its `fails_at`-th forward pass.
struct Greedy {
    tiny: Tiny,
    fails_at: u32,
    calls: Cell<u32>,
}

impl Model for Greedy {
    fn parameters(&self) -> &Parameters {
        self.tiny.parameters()
    }
    fn hidden(&self, tokens: &Tensor, pass: Pass) -> Result<Tensor, BoxError> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == self.fails_at {
            let _ = Tensor::f_empty([1 << 58], (Kind::Float, Device::Cpu))?;
        }
        self.tiny.hidden(tokens, pass)
    }
    fn head(&self) -> &Tensor {
        self.tiny.head()
    }
    fn logit_scale(&self) -> f64 {
        1.0
    }
    fn flops_per_token(&self, seq_len: i64) -> f64 {
        self.tiny.flops_per_token(seq_len)
    }
}

#[test]
fn exhausted_memory_is_an_outcome_with_the_updates_done() {
    let _turn = exclusive();
    // Two micro-batches an update: the sixth pass belongs to the third update.
    let greedy = Greedy { tiny: Tiny::new(1, 0.0), fails_at: 6, calls: Cell::new(0) };
    let outcome = run(&greedy, &mut Noisy::default(), &config(), &mut Recorder::default()).unwrap();
    assert_eq!(outcome, Outcome::OutOfMemory { step: 2 });
    assert!(greedy.parameters().iter().all(|p| !p.tensor.grad().defined()), "gradients are freed");
}

#[test]
fn without_checkpoints_nothing_is_written() {
    let _turn = exclusive();
    let (parent, config) =
        (tempfile::tempdir().unwrap(), TrainConfig { checkpoint_every: 0, ..config() });
    let folder = parent.path().join("checkpoints");
    for stop_after in [Some(3), None] {
        let mut recorder = Recorder { stop_after, ..Recorder::default() };
        let mut data = Noisy::default();
        train(&Tiny::new(1, 0.0), &mut data, None, &config, &folder, &mut recorder).unwrap();
        assert_eq!(recorder.resumed, [(0, Default::default())]);
    }
    assert!(!folder.exists());
}

#[test]
fn an_update_uses_the_schedules_learning_rate_and_the_clipped_gradient() {
    let _turn = exclusive();
    let config = TrainConfig { clip_norm: Some(0.01), steps: 4, ..config() };
    let (folder, mut recorder) = (tempfile::tempdir().unwrap(), Recorder::stopping_after(1));
    let model = Tiny::new(1, 0.0);
    let bias = &model.parameters().get("up.bias").unwrap().tensor;
    let before = bias.detach().copy();
    train(&model, &mut Noisy::default(), None, &config, folder.path(), &mut recorder).unwrap();
    assert!(recorder.last.unwrap().grad_norm > 0.1, "the norm before clipping is reported");

    // After one update the first moments are (1 − beta1) times the clipped gradients.
    let state = Checkpoint::open(&folder.path().join("step-1")).unwrap().optimizer;
    let moments = state.names().filter(|name| name.starts_with("exp_avg."));
    let squares: f64 = moments
        .map(|name| state.tensor(name).unwrap().square().sum(Kind::Double).double_value(&[]))
        .sum();
    let clipped = squares.sqrt() / (1.0 - config.optimiser.beta1);
    assert!((clipped / 0.01 - 1.0).abs() < 1e-3, "{clipped}");

    // Adam's first update moves every number by the learning rate, as far as eps is small beside its gradient.
    let moved = (bias - before).abs().max().double_value(&[]);
    assert_eq!(config.learning_rate(0), 0.02 / 4.0);
    assert!((moved / config.learning_rate(0) - 1.0).abs() < 1e-3, "{moved}");
}

#[test]
fn learning_rate_and_speed_are_reported() {
    let _turn = exclusive();
    let (mut recorder, model) = (Recorder::default(), Tiny::new(1, 0.0));
    let config = TrainConfig { peak_flops: Some(1e9), ..config() };
    run(&model, &mut Noisy::default(), &config, &mut recorder).unwrap();
    let last = recorder.last.unwrap();
    assert_eq!((last.step, last.tokens), (12, 12 * 4 * 8));
    assert_eq!(last.lr, config.learning_rate(11));
    let used = last.tokens_per_sec * model.flops_per_token(8) / 1e9;
    assert!(
        last.tokens_per_sec > 0.0 && (last.mfu.unwrap() / used - 1.0).abs() < 1e-12,
        "{last:?}"
    );
}

/// Gives what it holds, whatever was asked for.
struct Fixed(Tensor);

impl Sequences for Fixed {
    fn rows(&mut self, _first_index: u64, _n: usize) -> Result<Tensor, BoxError> {
        Ok(self.0.shallow_clone())
    }
}

#[test]
fn rows_that_cannot_be_trained_on_are_refused_with_their_place() {
    let _turn = exclusive();
    let check = |rows: Tensor, expected: &str| {
        let model = Tiny::new(1, 0.0);
        let error = run(&model, &mut Fixed(rows), &config(), &mut Recorder::default()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let tokens = |shape: &[i64]| Tensor::zeros(shape, (Kind::Int64, Device::Cpu));
    check(tokens(&[4, 8]), "rows 0..4: want Int64 [4, 9], got Int64 [4, 8]");
    check(tokens(&[4, 9]).to_kind(Kind::Int), "rows 0..4: want Int64 [4, 9], got Int [4, 9]");
    check(tokens(&[4, 9]).fill_(-100), "rows 0..4: nothing to predict");
}

#[test]
fn a_failing_observer_ends_the_run_with_its_own_words() {
    struct Full;
    impl Observer for Full {
        fn step(&mut self, _: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
            Err("out of memory, says the log".into())
        }
    }
    let _turn = exclusive();
    let error = run(&Tiny::new(1, 0.0), &mut Noisy::default(), &config(), &mut Full).unwrap_err();
    assert_eq!(error.to_string(), "the observer failed");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "out of memory, says the log");
}
