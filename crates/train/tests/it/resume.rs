//! A resumed run is the run that was not interrupted.

use std::path::Path;

use forerun_train::{EvalSet, Outcome, TrainConfig, train};

use crate::tiny::{Noisy, Recorder, Tiny, config, exclusive};

const DROPOUT: f64 = 0.3;

/// One start of a run with dropout and evaluations, from whatever is in `folder`. The seed differs from start to
/// start, as if the resumed process had initialised its model and generator in another way.
fn start(
    seed: u64,
    config: &TrainConfig,
    folder: &Path,
    recorder: &mut Recorder,
) -> (Outcome, Vec<u32>) {
    let (model, mut held_out) = (Tiny::new(seed, DROPOUT), Noisy::default());
    let eval = EvalSet { data: &mut held_out, n_rows: 3 };
    let mut data = Noisy::default();
    let outcome = train(&model, &mut data, Some(eval), config, folder, recorder).unwrap();
    (outcome, model.bits())
}

fn evaluating() -> TrainConfig {
    TrainConfig { eval_every: 5, ..config() }
}

#[test]
fn every_cut_of_a_run_gives_the_same_bits() {
    let _turn = exclusive();
    // Only the cut writes a checkpoint, and the end.
    let config = TrainConfig { checkpoint_every: 100, ..evaluating() };
    let folder = tempfile::tempdir().unwrap();
    let mut whole = Recorder::default();
    let (outcome, weights) = start(1, &config, folder.path(), &mut whole);
    assert_eq!(whole.seen.len(), 12 + 3, "updates, and evaluations after 5, 10 and 12");
    for cut in 1..=12 {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Recorder::stopping_after(cut);
        let (stopped, _) = start(1, &config, folder.path(), &mut first);
        if cut < 12 {
            assert_eq!(stopped, Outcome::Stopped { step: cut });
        }
        let mut second = Recorder::default();
        let (resumed, resumed_weights) = start(99, &config, folder.path(), &mut second);
        let log = ("metrics.jsonl".to_owned(), 100 * first.seen.len() as u64);
        assert_eq!(second.resumed, [(cut, [log].into())]);
        assert_eq!([first.seen, second.seen].concat(), whole.seen, "cut after {cut}");
        assert_eq!((resumed, resumed_weights), (outcome, weights.clone()), "cut after {cut}");
    }
}

#[test]
fn a_cut_between_checkpoints_repeats_the_updates_since() {
    let _turn = exclusive();
    let config = TrainConfig { checkpoint_every: 5, ..evaluating() };
    let (whole_folder, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut whole = Recorder::default();
    let expected = start(1, &config, whole_folder.path(), &mut whole);
    assert_eq!(whole.written, [5, 10, 12]);

    let mut first = Recorder::stopping_after(8);
    start(1, &config, folder.path(), &mut first);
    std::fs::remove_dir_all(folder.path().join("step-8")).unwrap(); // as if killed, not stopped
    let mut second = Recorder::default();
    assert_eq!(start(99, &config, folder.path(), &mut second), expected);
    assert_eq!(second.resumed[0].0, 5);
    assert_eq!(
        second.seen,
        whole.seen[6..],
        "5 updates and 1 evaluation lie before the checkpoint"
    );
}

#[test]
fn a_finished_run_is_not_trained_further() {
    let _turn = exclusive();
    let (config, folder) = (evaluating(), tempfile::tempdir().unwrap());
    let expected = start(1, &config, folder.path(), &mut Recorder::default());
    let mut again = Recorder::default();
    assert_eq!(start(2, &config, folder.path(), &mut again), expected);
    assert!(again.seen.is_empty() && again.written.is_empty());
}

#[test]
fn rows_are_asked_for_by_global_index_also_after_a_cut() {
    let _turn = exclusive();
    let (config, folder) = (config(), tempfile::tempdir().unwrap());
    let mut asked = Vec::new();
    for stop_after in [Some(7), None] {
        let (model, mut data) = (Tiny::new(1, DROPOUT), Noisy::default());
        let mut recorder = Recorder { stop_after, ..Recorder::default() };
        train(&model, &mut data, None, &config, folder.path(), &mut recorder).unwrap();
        asked.extend(data.asked);
    }
    assert_eq!(asked, (0..12).map(|step| (4 * step, 4)).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_of_another_config_is_refused_by_the_field_that_differs() {
    let _turn = exclusive();
    let folder = tempfile::tempdir().unwrap();
    start(1, &config(), folder.path(), &mut Recorder::stopping_after(3));
    let check = |change: fn(&mut TrainConfig), expected: &str| {
        let mut config = config();
        change(&mut config);
        let model = Tiny::new(7, DROPOUT);
        let before = model.bits();
        let error = train(
            &model,
            &mut Noisy::default(),
            None,
            &config,
            folder.path(),
            &mut Recorder::default(),
        )
        .unwrap_err()
        .to_string();
        let path = folder.path().join("step-3");
        assert_eq!(error, format!("checkpoint `{}` has {expected}", path.display()));
        assert_eq!(model.bits(), before, "nothing was taken from it");
    };
    check(|c| c.optimiser.lr = 0.03, "optimiser.lr = 0.02, this run has 0.03");
    check(|c| c.steps = 13, "steps = 12, this run has 13");
    check(|c| c.micro_batch_size = 4, "micro_batch_size = 2, this run has 4");
    check(
        |c| c.activation_checkpointing = true,
        "activation_checkpointing = false, this run has true",
    );
    check(|c| c.clip_norm = None, "clip_norm = 1.0, this run has null");
    check(
        |c| c.schedule = forerun_train::Schedule::Constant,
        "schedule.cosine.final_fraction = 0.1, this run has nothing",
    );
    // What changes no number may change.
    let config = TrainConfig { keep_checkpoints: 1, peak_flops: Some(1e9), ..config() };
    let mut recorder = Recorder::default();
    let (outcome, _) = start(7, &config, folder.path(), &mut recorder);
    assert!(matches!(outcome, Outcome::Finished { step: 12, .. }));
    assert_eq!(recorder.resumed[0].0, 3);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_checkpoint_whose_log_is_too_short_is_passed_over() {
    let _turn = exclusive();
    let config = TrainConfig { checkpoint_every: 3, keep_checkpoints: 3, ..config() };
    let (whole_folder, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut whole = Recorder::default();
    let expected = start(1, &config, whole_folder.path(), &mut whole);
    start(1, &config, folder.path(), &mut Recorder::stopping_after(7));

    // Checkpoints after 3, 6 and 7 updates; a third of the log is lost.
    let mut second = Recorder { log_bytes: Some(400), ..Recorder::default() };
    assert_eq!(start(99, &config, folder.path(), &mut second), expected);
    assert_eq!(second.resumed, [(3, [("metrics.jsonl".to_owned(), 300)].into())]);
    assert_eq!(second.seen, whole.seen[3..]);
    let refused = [(7, 700), (6, 600)].map(|(step, want)| {
        let path = folder.path().join(format!("step-{step}"));
        let reason = format!("`metrics.jsonl` has 400 bytes, not {want}");
        let shown = path.display().to_string();
        (path, format!("checkpoint `{shown}` does not fit its logs: {reason}"))
    });
    assert_eq!(second.refused, refused);

    // With nothing left of the log the run starts again.
    let mut third = Recorder { log_bytes: Some(0), ..Recorder::default() };
    assert_eq!(start(1, &config, folder.path(), &mut third), expected);
    assert_eq!(third.resumed, [(0, Default::default())]);
    assert_eq!(third.seen, whole.seen);
}
