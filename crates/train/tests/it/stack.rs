//! A stack trains its members as each would be trained alone.

use std::ops::ControlFlow;
use std::path::Path;

use forerun_tensors::{Parameter, Parameters};
use forerun_train::{
    BoxError, EvalMetrics, EvalSet, Evaluated, Member, Model, Observer, Outcome, Pass, Precision,
    Sequences, StackData, StackOutcome, StepMetrics, TrainConfig, evaluate, evaluate_stack, train,
    train_stack,
};
use tch::{Kind, Tensor};

use crate::tiny::{Noisy, Recorder, Seen, Tiny, TinyStack, config, exclusive};

/// One member: seed of the weights, learning rate, order of the data.
type Spec = (u64, f64, u64);

const SPECS: [Spec; 3] = [(1, 0.02, 0), (2, 0.005, 100), (3, 0.05, 7)];

/// What was heard of each member.
#[derive(Default)]
struct Heard {
    members: Vec<Recorder>,
    diverged: Vec<(usize, u64, u64)>,
    /// Offsets of the log, one line each, and where it stood at the start.
    lines: u64,
    stop_after: Option<u64>,
}

impl Heard {
    fn of(n: usize) -> Self {
        Self { members: (0..n).map(|_| Recorder::default()).collect(), ..Self::default() }
    }

    fn seen(self) -> Vec<Vec<Seen>> {
        self.members.into_iter().map(|recorder| recorder.seen).collect()
    }
}

impl Observer for Heard {
    fn step(&mut self, _: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
        Err("a stack has members".into())
    }

    fn member_step(&mut self, i: usize, m: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
        self.lines += 1;
        let _ = self.members[i].step(m)?;
        let stop = self.stop_after == Some(m.step);
        Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn member_evaluation(
        &mut self,
        i: usize,
        m: &EvalMetrics,
    ) -> Result<ControlFlow<()>, BoxError> {
        self.lines += 1;
        self.members[i].evaluation(m)
    }

    fn member_diverged(&mut self, i: usize, step: u64, loss: f64) -> Result<(), BoxError> {
        self.diverged.push((i, step, loss.to_bits()));
        Ok(())
    }

    fn log_offsets(&mut self) -> Result<std::collections::BTreeMap<String, u64>, BoxError> {
        Ok([("lines".to_owned(), self.lines)].into())
    }
}

/// Rows in an order of their own.
struct Shifted(Noisy, u64);

impl Sequences for Shifted {
    fn rows(&mut self, first_index: u64, n: usize) -> Result<Tensor, BoxError> {
        self.0.rows(first_index + self.1, n)
    }
}

fn evaluating() -> TrainConfig {
    TrainConfig { eval_every: 5, ..config() }
}

/// Twelve updates of a stack; its end, its weights by member, and what was heard.
fn run(
    specs: &[Spec],
    config: &TrainConfig,
    folder: &Path,
    heard: &mut Heard,
) -> (StackOutcome, Vec<Vec<u32>>) {
    let model = TinyStack::new(specs.iter().map(|spec| Tiny::new(spec.0, 0.0)).collect());
    let outcome = run_model(&model, specs, config, folder, heard);
    (outcome, model.bits())
}

fn run_model(
    model: &TinyStack,
    specs: &[Spec],
    config: &TrainConfig,
    folder: &Path,
    heard: &mut Heard,
) -> StackOutcome {
    let mut sources: Vec<Shifted> = specs
        .iter()
        .map(|spec| Shifted(Noisy { padded: true, ..Noisy::default() }, spec.2))
        .collect();
    let data =
        StackData::Own(sources.iter_mut().map(|source| source as &mut dyn Sequences).collect());
    let mut held_out = Noisy::default();
    let eval = EvalSet { data: &mut held_out, n_rows: 3 };
    let members: Vec<Member> = specs.iter().map(|spec| Member { lr: spec.1 }).collect();
    train_stack(model, data, Some(eval), config, &members, folder, heard).unwrap()
}

fn fresh(specs: &[Spec], config: &TrainConfig) -> (StackOutcome, Vec<Vec<u32>>, Heard) {
    let (folder, mut heard) = (tempfile::tempdir().unwrap(), Heard::of(specs.len()));
    let (outcome, bits) = run(specs, config, folder.path(), &mut heard);
    (outcome, bits, heard)
}

fn alone(&(seed, lr, shift): &Spec, config: &TrainConfig) -> (Outcome, Vec<u32>, Recorder) {
    let mut config = config.clone();
    config.optimiser.lr = lr;
    let (folder, mut recorder) = (tempfile::tempdir().unwrap(), Recorder::default());
    let (model, mut held_out) = (Tiny::new(seed, 0.0), Noisy::default());
    let mut data = Shifted(Noisy { padded: true, ..Noisy::default() }, shift);
    let eval = EvalSet { data: &mut held_out, n_rows: 3 };
    let outcome =
        train(&model, &mut data, Some(eval), &config, folder.path(), &mut recorder).unwrap();
    (outcome, model.bits(), recorder)
}

fn largest_difference(a: &[u32], b: &[u32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |most, (a, b)| most.max((f32::from_bits(*a) - f32::from_bits(*b)).abs()))
}

#[test]
fn each_member_is_trained_as_it_would_be_alone() {
    let _turn = exclusive();
    for micro_batch_size in [2, 4] {
        let config = TrainConfig { micro_batch_size, ..evaluating() };
        let (outcome, weights, heard) = fresh(&SPECS, &config);
        for (i, spec) in SPECS.iter().enumerate() {
            let (expected, expected_weights, recorder) = alone(spec, &config);
            let own = &heard.members[i];
            for (a, b) in own.losses.iter().zip(&recorder.losses) {
                // f32 products summed in another order: 1e-7 relative, amplified by 12 updates of Adam.
                assert!((a - b).abs() < 1e-5, "member {i}: {a} {b}");
            }
            assert!(own.losses.len() == 12 && own.seen.len() == recorder.seen.len());
            let difference = largest_difference(&weights[i], &expected_weights);
            assert!(difference < 1e-4, "member {i}: {difference}");
            let Outcome::Finished { step: 12, tokens, loss, eval_loss } = outcome.members[i] else {
                panic!("{outcome:?}")
            };
            let Outcome::Finished { tokens: t, loss: l, eval_loss: e, .. } = expected else {
                panic!("{expected:?}")
            };
            assert_eq!(tokens, t);
            assert!((loss - l).abs() < 1e-5 && (eval_loss.unwrap() - e.unwrap()).abs() < 1e-5);
            for (a, b) in own.seen.iter().zip(&recorder.seen) {
                assert!(same_but_for_numbers(a, b), "{a:?} {b:?}");
            }
        }
    }
}

/// Steps, counts and learning rates are equal to the bit, gradient norms to rounding.
fn same_but_for_numbers(a: &Seen, b: &Seen) -> bool {
    match (*a, *b) {
        (
            Seen::Step { step, tokens, lr, grad_norm, .. },
            Seen::Step { step: s, tokens: t, lr: l, grad_norm: g, .. },
        ) => {
            let ratio = f64::from_bits(grad_norm) / f64::from_bits(g);
            (step, tokens, lr) == (s, t, l) && (ratio - 1.0).abs() < 1e-4
        }
        (
            Seen::Evaluation { step, tokens, n_tokens, .. },
            Seen::Evaluation { step: s, tokens: t, n_tokens: n, .. },
        ) => (step, tokens, n_tokens) == (s, t, n),
        _ => false,
    }
}

#[test]
fn permuting_the_members_permutes_the_result() {
    let _turn = exclusive();
    let (_, weights, heard) = fresh(&SPECS, &evaluating());
    let order = [2, 0, 1];
    let (_, permuted, heard_permuted) = fresh(&order.map(|i| SPECS[i]), &evaluating());
    let (seen, seen_permuted) = (heard.seen(), heard_permuted.seen());
    for (place, &i) in order.iter().enumerate() {
        assert!(permuted[place] == weights[i], "weights of member {i}");
        assert_eq!(seen_permuted[place], seen[i], "metrics of member {i}");
    }
}

#[test]
fn rows_that_are_shared_are_the_same_as_rows_that_are_equal() {
    let _turn = exclusive();
    let specs = SPECS.map(|(seed, lr, _)| (seed, lr, 0));
    let (_, own, _) = fresh(&specs, &config());
    let model = TinyStack::new(specs.iter().map(|spec| Tiny::new(spec.0, 0.0)).collect());
    let (folder, mut heard) = (tempfile::tempdir().unwrap(), Heard::of(3));
    let mut rows = Noisy { padded: true, ..Noisy::default() };
    let members = specs.map(|spec| Member { lr: spec.1 });
    let data = StackData::Shared(&mut rows);
    train_stack(&model, data, None, &config(), &members, folder.path(), &mut heard).unwrap();
    assert!(model.bits() == own);
    assert_eq!(rows.asked, (0..12).map(|step| (4 * step, 4)).collect::<Vec<_>>(), "fetched once");
}

/// Learning rates that blow one member up, without a clip that would hold it.
fn unclipped() -> TrainConfig {
    let mut config = TrainConfig { clip_norm: None, warmup_steps: 0, ..evaluating() };
    config.optimiser.weight_decay = 0.0;
    config
}

const EXPLODING: Spec = (2, 1e9, 100);

#[test]
fn a_member_that_diverges_is_left_out_and_the_others_do_not_notice() {
    let _turn = exclusive();
    for clip_norm in [None, Some(1.0)] {
        let config = TrainConfig { clip_norm, ..unclipped() };
        let (_, sound_weights, sound) = fresh(&SPECS, &config);
        let (outcome, weights, heard) = fresh(&[SPECS[0], EXPLODING, SPECS[2]], &config);
        let Outcome::Diverged { step, loss } = outcome.members[1] else { panic!("{outcome:?}") };
        assert!(step > 1 && step < 5 && (loss.is_nan() || loss > 30.0), "{outcome:?}");
        assert_eq!(heard.diverged, [(1, step, loss.to_bits())]);
        assert_eq!(
            heard.members[1].losses.len() as u64,
            step - 1,
            "a bad update is no measurement"
        );
        let (seen, sound) = (heard.seen(), sound.seen());
        for i in [0, 2] {
            assert!(matches!(outcome.members[i], Outcome::Finished { step: 12, .. }));
            assert!(weights[i] == sound_weights[i], "weights of member {i}");
            assert_eq!(seen[i], sound[i], "metrics of member {i}");
        }
        // Its parameters are those of the update before.
        let short = TrainConfig { steps: 12, ..config };
        let (folder, mut stopped) = (tempfile::tempdir().unwrap(), Heard::of(3));
        stopped.stop_after = Some(step - 1);
        let specs = [SPECS[0], EXPLODING, SPECS[2]];
        let (_, before) = run(&specs, &short, folder.path(), &mut stopped);
        assert!(weights[1] == before[1] && weights[0] != before[0]);
    }
}

#[test]
fn the_run_ends_with_its_last_member() {
    let _turn = exclusive();
    let exploding = [EXPLODING, (3, 1e9, 0)];
    let (outcome, _, heard) = fresh(&exploding, &unclipped());
    assert!(outcome.members.iter().all(|o| matches!(o, Outcome::Diverged { .. })), "{outcome:?}");
    assert_eq!(heard.diverged.len(), 2);
    let last = heard.diverged.iter().map(|diverged| diverged.1).max().unwrap();
    assert!(heard.members.iter().all(|member| (member.losses.len() as u64) < last));
}

#[test]
fn every_cut_gives_the_same_bits_also_with_a_member_that_diverges() {
    let _turn = exclusive();
    let specs = [SPECS[0], EXPLODING, SPECS[2]];
    let config = TrainConfig { checkpoint_every: 100, ..unclipped() };
    let (outcome, weights, whole) = fresh(&specs, &config);
    let (diverged, whole) = (whole.diverged.clone(), whole.seen());
    for cut in 1..12 {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Heard { stop_after: Some(cut), ..Heard::of(3) };
        let (stopped, _) = run(&specs, &config, folder.path(), &mut first);
        assert!(stopped.is_stopped() && stopped.members[0] == Outcome::Stopped { step: cut });
        let mut second = Heard::of(3);
        // Other weights than at the first start, as if the process had initialised them in another way.
        let model = TinyStack::new((50..53).map(|seed| Tiny::new(seed, 0.0)).collect());
        let resumed = run_model(&model, &specs, &config, folder.path(), &mut second);
        assert_eq!(format!("{resumed:?}"), format!("{outcome:?}"), "cut after {cut}");
        assert!(model.bits() == weights, "cut after {cut}");
        assert_eq!([first.diverged.clone(), second.diverged.clone()].concat(), diverged);
        for (i, (first, second)) in first.seen().into_iter().zip(second.seen()).enumerate() {
            assert_eq!([first, second].concat(), whole[i], "member {i} cut after {cut}");
        }
    }
}

#[test]
fn each_member_is_evaluated_as_it_would_be_alone() {
    let _turn = exclusive();
    let model = TinyStack::new((1..4).map(|seed| Tiny::new(seed, 0.0)).collect());
    for precision in [Precision::F32, Precision::Bf16] {
        let config = TrainConfig { precision, micro_batch_size: 2, ..config() };
        let mut rows = Noisy { padded: true, ..Noisy::default() };
        let found =
            evaluate_stack(&model, &mut EvalSet { data: &mut rows, n_rows: 5 }, &config).unwrap();
        for (i, &Evaluated { loss, n_tokens }) in found.iter().enumerate() {
            let single = Tiny::new(i as u64 + 1, 0.0);
            let mut rows = Noisy { padded: true, ..Noisy::default() };
            let set = &mut EvalSet { data: &mut rows, n_rows: 5 };
            let alone = evaluate(&single, set, &config).unwrap();
            assert_eq!(n_tokens, alone.n_tokens);
            // Another order of f32 sums; under bf16 the roundings of 8 bits may fall apart.
            let tolerance = if precision == Precision::F32 { 1e-6 } else { 5e-3 };
            assert!((loss - alone.loss).abs() < tolerance, "{loss} {}", alone.loss);
        }
    }
    let mut rows = Noisy::default();
    let refused = evaluate(&model, &mut EvalSet { data: &mut rows, n_rows: 5 }, &config());
    assert_eq!(refused.unwrap_err().to_string(), "model must be a single one, got a stack of 3");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let _turn = exclusive();
    let stack = || TinyStack::new((1..3).map(|seed| Tiny::new(seed, 0.0)).collect());
    let check = |model: &dyn Model, n_sources: usize, lrs: &[f64], expected: &str| {
        let mut sources: Vec<Noisy> = (0..n_sources).map(|_| Noisy::default()).collect();
        let data = StackData::Own(sources.iter_mut().map(|s| s as &mut dyn Sequences).collect());
        let members: Vec<Member> = lrs.iter().map(|&lr| Member { lr }).collect();
        let (folder, mut heard) = (tempfile::tempdir().unwrap(), Heard::of(2));
        let path = folder.path();
        let error = train_stack(model, data, None, &config(), &members, path, &mut heard);
        assert_eq!(error.unwrap_err().to_string(), expected);
    };
    let (good, single) = (stack(), Tiny::new(1, 0.0));
    check(&single, 1, &[0.1], "model must be a stack, got a single model");
    check(&good, 2, &[0.1], "members must be as many as the stack has (2), got 1");
    check(&good, 3, &[0.1, 0.2], "data must be one source for each of 2 members, got 3");
    let bad = "lr must be finite and above 0, got -1 for member 1";
    check(&good, 2, &[0.1, -1.0], bad);
    let (folder, mut recorder) = (tempfile::tempdir().unwrap(), Recorder::default());
    let mut data = Noisy::default();
    let error = train(&good, &mut data, None, &config(), folder.path(), &mut recorder);
    assert_eq!(error.unwrap_err().to_string(), "model must be a single one, got a stack of 2");
}

/// A stack of two whose bias belongs to none of them.
struct Loose(TinyStack, Parameters);

impl Model for Loose {
    fn parameters(&self) -> &Parameters {
        &self.1
    }
    fn hidden(&self, tokens: &Tensor, pass: Pass) -> Result<Tensor, BoxError> {
        self.0.hidden(tokens, pass)
    }
    fn head(&self) -> &Tensor {
        self.0.head()
    }
    fn logit_scale(&self) -> f64 {
        1.0
    }
    fn flops_per_token(&self, _: i64) -> f64 {
        1.0
    }
}

#[test]
fn a_parameter_without_the_members_is_refused() {
    let _turn = exclusive();
    let stack = TinyStack::new((1..3).map(|seed| Tiny::new(seed, 0.0)).collect());
    let mut parameters = Parameters::new();
    let tensor = Tensor::zeros([5], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
    let role = forerun_tensors::Role::Bias;
    parameters.push(Parameter { name: "loose".into(), tensor, role, lr_multiplier: 1.0 }).unwrap();
    let (folder, mut heard, mut rows) =
        (tempfile::tempdir().unwrap(), Heard::of(2), Noisy::default());
    let members = [Member { lr: 0.1 }; 2];
    let (model, data) = (Loose(stack, parameters), StackData::Shared(&mut rows));
    let error = train_stack(&model, data, None, &config(), &members, folder.path(), &mut heard);
    let expected = "shape of a parameter must be [2, ..] in a stack of 2, got [5] for `loose`";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[test]
fn a_checkpoint_with_other_learning_rates_is_refused_by_the_member() {
    let _turn = exclusive();
    let folder = tempfile::tempdir().unwrap();
    let mut stopped = Heard { stop_after: Some(3), ..Heard::of(3) };
    run(&SPECS, &config(), folder.path(), &mut stopped);
    let model = TinyStack::new((1..4).map(|seed| Tiny::new(seed, 0.0)).collect());
    let (mut rows, mut heard) = (Noisy::default(), Heard::of(3));
    let members = [0.02, 0.006, 0.05].map(|lr| Member { lr });
    let data = StackData::Shared(&mut rows);
    let error = train_stack(&model, data, None, &config(), &members, folder.path(), &mut heard);
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("has members.1.lr = 0.005, this run has 0.006"), "{error}");
    // The rate that a stack does not use may change.
    let mut other = config();
    other.optimiser.lr = 0.5;
    let (outcome, _) =
        run(&SPECS, &TrainConfig { eval_every: 0, ..other }, folder.path(), &mut heard);
    assert!(matches!(outcome.members[0], Outcome::Finished { step: 12, .. }));
}
