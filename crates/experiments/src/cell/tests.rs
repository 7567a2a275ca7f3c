use serde_json::json;

use super::*;
use crate::evaluate::{ResolutionTask, SampleTask};

fn cell() -> Cell {
    let samples =
        SampleTask { n_prompts: 1, prompt_tokens: 8, new_tokens: 8, temperature: 0.8, top_p: 0.9 };
    let task = EvaluateLm {
        lengths: vec![32, 64],
        block_size: 16,
        n_tokens: 1024,
        resolution: ResolutionTask { lengths: vec![32], n_sequences: 1 },
        samples,
        seed: 7,
        member: None,
    };
    let input = Input { path: "a.tokens".into(), hash: "00ff".to_owned(), tokens: None };
    Cell {
        task: Task::EvaluateLm(task),
        machine: Machine { device: "cpu".to_owned(), threads: 1 },
        inputs: BTreeMap::from([("validation".to_owned(), input)]),
        needs: vec!["0123".to_owned()],
        label: "evaluate rope, seed 0".to_owned(),
        tags: BTreeMap::from([("arm".to_owned(), json!("rope"))]),
        members: Vec::new(),
        cost: Cost::default(),
    }
}

#[track_caller]
fn check(same: bool, change: impl FnOnce(&mut Cell)) {
    let mut other = cell();
    change(&mut other);
    assert_eq!(other.key() == cell().key(), same, "{other:?}");
}

#[test]
fn whatever_can_change_a_number_changes_the_key() {
    check(false, |cell| cell.needs[0] = "4567".to_owned());
    check(false, |cell| cell.machine.threads = 2);
    check(false, |cell| cell.machine.device = "cuda:0".to_owned());
    check(false, |cell| cell.inputs.get_mut("validation").unwrap().hash = "ff00".to_owned());
    check(false, |cell| cell.inputs.get_mut("validation").unwrap().tokens = Some([0, 9]));
    check(false, |cell| {
        let Task::EvaluateLm(task) = &mut cell.task else { unreachable!() };
        task.seed = 8;
    });
}

#[test]
fn what_only_people_read_does_not() {
    check(true, |cell| cell.label = "other".to_owned());
    check(true, |cell| cell.tags.clear());
    check(true, |cell| cell.cost.flops = 1e9);
    check(true, |cell| cell.inputs.get_mut("validation").unwrap().path = "b.tokens".into());
}

#[test]
fn two_gpus_of_one_kind_share_their_cells() {
    let on = |device: &str| {
        let mut cell = cell();
        cell.machine.device = device.to_owned();
        cell.key()
    };
    assert_eq!(on("cuda:0"), on("cuda:1"));
}

#[test]
fn a_cell_survives_its_file() {
    let text = serde_json::to_string(&cell()).unwrap();
    let back: Cell = serde_json::from_str(&text).unwrap();
    assert_eq!((back.key(), &back), (cell().key(), &cell()));
}
