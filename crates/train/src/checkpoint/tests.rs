use std::collections::BTreeSet;

use super::*;

fn write(folder: &Path, step: u64) -> PathBuf {
    let state = State { step, next_row: 10 * step, ..State::of_config(BTreeMap::new(), 1) };
    let model = [("w".to_owned(), Tensor::from_slice(&[step as f32, 0.5]))];
    let optimizer = [("step.w".to_owned(), Tensor::from(step as f32))];
    Checkpoint::write(folder, state, &model, &optimizer).unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    entries(folder).unwrap().into_iter().map(|(name, _)| name).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn what_is_written_is_read_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), 12);
    assert_eq!(names(folder.path()), set(&["step-12"]));
    assert_eq!(names(&path), set(&["model.safetensors", "optimizer.safetensors", "state.json"]));
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!((checkpoint.state.step, checkpoint.state.next_row), (12, 120));
    assert_eq!(Vec::<f32>::try_from(checkpoint.model.tensor("w").unwrap()).unwrap(), [12.0, 0.5]);
    assert_eq!(checkpoint.model.sha256().unwrap(), checkpoint.state.model_sha256);
}

#[test]
fn the_newest_is_found_by_number_and_strays_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    for step in [9, 10, 2] {
        write(folder.path(), step);
    }
    fs::create_dir(folder.path().join("step-final")).unwrap();
    fs::write(folder.path().join("notes.txt"), "").unwrap();
    let steps: Vec<u64> = list(folder.path()).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [10, 9, 2]);
    let newest = Checkpoint::newest(folder.path(), |_, _| panic!("none is damaged")).unwrap();
    assert_eq!(newest.unwrap().state.step, 10);
    let none = Checkpoint::newest(&folder.path().join("absent"), |_, _| Ok(())).unwrap();
    assert!(none.is_none());
}

#[test]
fn pruning_keeps_the_newest_and_what_lies_ahead() {
    let folder = tempfile::tempdir().unwrap();
    for step in 1..=5 {
        write(folder.path(), step);
    }
    prune(folder.path(), 4, 2).unwrap();
    assert_eq!(names(folder.path()), set(&["step-3", "step-4", "step-5"]));
}

#[test]
fn a_folder_of_the_same_step_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), 3);
    fs::write(path.join(MODEL), "damaged").unwrap();
    fs::write(path.join("extra"), "").unwrap();
    write(folder.path(), 3);
    Checkpoint::open(&path).unwrap();
    assert!(!path.join("extra").exists());
    assert_eq!(names(folder.path()), set(&["step-3"]));
}

#[test]
fn leftovers_of_a_kill_are_swept_away_and_do_not_disturb_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let leftovers =
        ["step-4", "step-8", "old"].map(|name| folder.path().join(format!("{HIDDEN}{name}")));
    for leftover in &leftovers {
        fs::create_dir_all(leftover).unwrap();
        fs::write(leftover.join(MODEL), "half").unwrap();
    }
    let path = write(folder.path(), 4);
    assert_eq!(Checkpoint::open(&path).unwrap().state.step, 4);
    sweep(folder.path()).unwrap();
    assert_eq!(names(folder.path()), set(&["step-4"]));
}
