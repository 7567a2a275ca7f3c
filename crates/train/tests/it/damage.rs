//! A damaged checkpoint is refused, said so, and the one before it used.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use forerun_train::{Checkpoint, Outcome, TrainConfig, train};

use crate::tiny::{Noisy, Recorder, Seen, Tiny, config, exclusive};

/// The outcome and the weights.
type End = (Outcome, Vec<u32>);

fn start(seed: u64, folder: &Path, recorder: &mut Recorder) -> End {
    let model = Tiny::new(seed, 0.3);
    let config = TrainConfig { checkpoint_every: 6, ..config() };
    let outcome = train(&model, &mut Noisy::default(), None, &config, folder, recorder).unwrap();
    (outcome, model.bits())
}

/// Everything that a run without a stop reports, and how it ends; trained once. Asked for under `exclusive` only.
fn undisturbed() -> &'static (Vec<Seen>, End) {
    static WHOLE: OnceLock<(Vec<Seen>, End)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let (folder, mut recorder) = (tempfile::tempdir().unwrap(), Recorder::default());
        let end = start(1, folder.path(), &mut recorder);
        (recorder.seen, end)
    })
}

fn flip(path: &Path, position: usize, bit: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[position] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
}

/// Stops after 7 updates, damages `step-7/name`, and goes on; returns the reason of the refusal.
fn check(name: &str, damage: fn(&Path)) -> String {
    let (whole, end) = undisturbed();
    let folder = tempfile::tempdir().unwrap();
    start(1, folder.path(), &mut Recorder::stopping_after(7));
    let newest = folder.path().join("step-7");
    damage(&newest.join(name));
    let mut recorder = Recorder::default();
    assert_eq!(start(99, folder.path(), &mut recorder), *end, "{name}");
    assert_eq!(recorder.seen, whole[6..], "{name}: on from step 6");
    let [(path, reason)] = recorder.refused.try_into().unwrap();
    assert_eq!(path, newest);
    reason.replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn a_truncated_file_falls_back_to_the_checkpoint_before() {
    let _turn = exclusive();
    for name in ["model.safetensors", "optimizer.safetensors", "state.json"] {
        let reason = check(name, truncate);
        assert!(
            reason.starts_with(&format!("checkpoint `DIR/step-7/{name}` is damaged: ")),
            "{reason}"
        );
    }
}

#[test]
fn a_flipped_bit_falls_back_to_the_checkpoint_before() {
    let _turn = exclusive();
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let reason =
            check(name, |path| flip(path, fs::metadata(path).unwrap().len() as usize - 9, 3));
        let start = format!("checkpoint `DIR/step-7/{name}` is damaged: its SHA-256 is ");
        assert!(reason.starts_with(&start), "{reason}");
    }
    // A digit of the step, which is still good JSON.
    let reason = check("state.json", |path| {
        let text = fs::read_to_string(path).unwrap();
        flip(path, text.find("\"step\": 7").unwrap() + 8, 0);
    });
    let expected =
        "checkpoint `DIR/step-7/state.json` is damaged: its contents do not match its own SHA-256";
    assert_eq!(reason, expected);
}

#[test]
fn a_missing_file_falls_back_to_the_checkpoint_before() {
    let _turn = exclusive();
    for name in ["model.safetensors", "optimizer.safetensors", "state.json"] {
        let reason = check(name, |path| fs::remove_file(path).unwrap());
        assert!(reason.contains(&format!("DIR/step-7/{name}` is damaged: ")), "{reason}");
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let _turn = exclusive();
    let folder = tempfile::tempdir().unwrap();
    start(1, folder.path(), &mut Recorder::stopping_after(2));
    let path = folder.path().join("step-2");
    let sound = Checkpoint::open(&path).unwrap().state;
    for name in ["state.json", "model.safetensors", "optimizer.safetensors"] {
        let file = path.join(name);
        let length = fs::metadata(&file).unwrap().len() as usize;
        for position in (0..length).step_by(length / 60) {
            let bit = (position % 8) as u8;
            flip(&file, position, bit);
            // The last digit of a number may be beyond its precision: then nothing was lost either.
            if let Ok(checkpoint) = Checkpoint::open(&path) {
                assert!(name == "state.json" && checkpoint.state == sound, "{name} {position}");
            }
            flip(&file, position, bit);
        }
        assert_eq!(Checkpoint::open(&path).unwrap().state, sound);
    }
}

#[test]
fn with_every_checkpoint_damaged_the_run_starts_again_and_gives_the_same_bits() {
    let _turn = exclusive();
    let (whole, end) = undisturbed();
    let folder = tempfile::tempdir().unwrap();
    start(1, folder.path(), &mut Recorder::stopping_after(7));
    let damaged: Vec<PathBuf> = [7, 6].map(|n| folder.path().join(format!("step-{n}"))).into();
    for path in &damaged {
        truncate(&path.join("model.safetensors"));
    }
    let mut recorder = Recorder::default();
    assert_eq!(start(1, folder.path(), &mut recorder), *end);
    assert_eq!(recorder.seen, *whole);
    assert_eq!(recorder.resumed, [(0, Default::default())]);
    assert_eq!(recorder.refused.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), damaged);
}

#[test]
fn a_damaged_newer_checkpoint_does_not_push_a_sound_one_out() {
    let _turn = exclusive();
    let folder = tempfile::tempdir().unwrap();
    start(1, folder.path(), &mut Recorder::stopping_after(7));
    truncate(&folder.path().join("step-7/state.json"));
    fs::rename(folder.path().join("step-7"), folder.path().join("step-11")).unwrap();
    start(1, folder.path(), &mut Recorder::stopping_after(8));
    let found = Checkpoint::newest(folder.path(), |_, _| Ok(())).unwrap().unwrap();
    assert_eq!(found.state.step, 8);
}
