use std::collections::BTreeSet;

use serde_json::json;

use super::measure::{Measured, Ready, Turn, unequal};
use super::setup::{SEQ_LEN, VOCAB_SIZE, tokens};
use super::*;
use crate::peers::ratio::Spread;
use crate::tidy::root;

#[test]
fn a_program_says_when_it_is_ready() {
    let said = json!({"ready": true, "parameters": 7, "threads": 2, "versions": "torch 2"});
    let ready = Ready::parse(&said).unwrap();
    let expected =
        Ready { parameters: 7, threads: 2, versions: "torch 2".into(), flops_per_token: None };
    assert_eq!(ready, expected);
    for lacking in ["ready", "parameters", "threads", "versions"] {
        let mut said = said.clone();
        said.as_object_mut().unwrap().remove(lacking);
        assert_eq!(Ready::parse(&said), None, "{lacking}");
    }
}

#[test]
fn a_turn_has_a_time_and_a_loss_of_every_step() {
    let turn = Turn::parse(&json!({"steps": 2, "seconds": 0.5, "losses": [9.0, 8.5]}), 2).unwrap();
    assert_eq!(turn, Turn { seconds: 0.5, losses: vec![9.0, 8.5] });
    for wrong in [
        json!({"steps": 3, "seconds": 0.5, "losses": [9.0, 8.5, 8.0]}),
        json!({"steps": 2, "seconds": 0.5, "losses": [9.0]}),
        json!({"steps": 2, "seconds": 0.0, "losses": [9.0, 8.5]}),
        json!({"steps": 2, "seconds": 0.5, "losses": [9.0, null]}), // NaN, as JSON has it
        json!({"error": "no"}),
    ] {
        assert_eq!(Turn::parse(&wrong, 2), None, "{wrong}");
    }
}

#[test]
fn the_first_round_warms_up_and_is_not_counted() {
    let mut measured = Measured::default();
    measured.add(Turn { seconds: 9.0, losses: vec![9.0, 8.8] }, Some(5.0), false);
    measured.add(Turn { seconds: 2.0, losses: vec![8.6, 8.4] }, Some(3.0), true);
    assert_eq!(measured.rates, [2.0 * 2048.0 / 2.0]);
    assert_eq!(measured.cores(), Some(1.5));
    assert_eq!(measured.losses, [9.0, 8.8, 8.6, 8.4]);
}

#[test]
fn a_step_that_does_not_learn_is_noticed() {
    let learns =
        |losses: &[f64]| Measured { losses: losses.to_vec(), ..Measured::default() }.learns();
    assert!(learns(&[9.1, 9.0, 8.2]));
    assert!(!learns(&[9.1, 9.1, 9.1]));
    assert!(!learns(&[9.1, 12.0]));
    assert!(!learns(&[9.1, f64::NEG_INFINITY]));
    assert!(!learns(&[]));
}

#[test]
fn unequal_programs_are_noticed() {
    let ready = |parameters, threads| Ready {
        parameters,
        threads,
        versions: String::new(),
        flops_per_token: None,
    };
    assert!(unequal("them", &ready(10, 2), &ready(10, 2)).is_empty());
    assert_eq!(
        unequal("them", &ready(10, 2), &ready(11, 1)),
        ["them has 11 parameters, ours 10", "them runs 1 threads, ours 2"]
    );
}

#[test]
fn ratios_are_printed_with_their_range() {
    let speed = Spread { median: 1.253, min: 1.2, max: 1.31 };
    assert_eq!(
        table::ratios("torchscale", Some(speed), Some(speed), Some(0.456)),
        "  torchscale             speed 1.25 (1.20 to 1.31); processor time 1.25 (1.20 to 1.31); memory 0.46"
    );
    let unknown = table::ratios("x", None, None, None);
    assert!(unknown.ends_with("speed -; processor time -; memory -"), "{unknown}");
}

#[test]
fn products_are_rates_by_name() {
    let products = Products::parse(&json!({"mlp": 80.5, "square": 95.0})).unwrap();
    assert_eq!(products.best(), 95.0);
    assert_eq!(Products::parse(&json!({"square": "fast"})), None);
    assert_eq!(Products::parse(&json!({})), None);
}

#[test]
fn tokens_are_whole_batches_below_the_vocabulary_and_skewed() {
    let ids: Vec<u16> = tokens().collect();
    assert_eq!(ids.len() as u32 % (setup::BATCH_SIZE * (SEQ_LEN + 1)), 0);
    assert!(ids.iter().all(|id| u32::from(*id) < VOCAB_SIZE));
    let distinct: BTreeSet<&u16> = ids.iter().collect();
    assert!(distinct.len() > 4000, "{}", distinct.len());
    let zeros = ids.iter().filter(|id| **id == 0).count() as f64 / ids.len() as f64;
    let expected = 2_f64.ln() / f64::from(VOCAB_SIZE).ln();
    assert!((zeros - expected).abs() < 0.01, "{zeros} {expected}");
}

#[test]
fn every_block_has_a_rival_that_is_there() {
    for block in Block::ALL {
        let (name, program) = block.rival();
        assert!(!name.is_empty() && root().join("xtask/peers/train").join(program).exists());
        let setup = Setup {
            block,
            precision: Precision::Bf16,
            threads: 1,
            tokens: &root(),
            rivals_keep_memory: false,
        }
        .json();
        assert_eq!(setup["precision"], "bf16");
        assert_eq!(setup["block"], block.name());
    }
}
