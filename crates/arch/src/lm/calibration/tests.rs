use std::ops::ControlFlow;

use super::{Calibration, block_of};
use crate::lm::LmConfig;
use crate::testing::{lm, lm_config};

const TEXTS: [[i64; 6]; 2] = [[1, 5, 9, 30, 2, 7], [3, 3, 8, 11, 36, 0]];

#[test]
fn blocks_in_parts_are_as_all_at_once() {
    let mut model = lm(&lm_config(), 1);
    let texts: Vec<&[i64]> = TEXTS.iter().map(<[i64; 6]>::as_slice).collect();
    let all = model.calibrate(&texts, &|_| true).unwrap();
    for blocks_at_once in [1, 2, 5] {
        let mut calibration = Calibration::new(&mut model, texts.clone(), blocks_at_once).unwrap();
        for (name, want) in &all {
            let got = calibration.hessian(name).unwrap().unwrap();
            assert_eq!(got.rows(), 12);
            assert_eq!(got.mean().unwrap(), want.mean().unwrap(), "{name}");
        }
        assert!(calibration.found.is_empty());
        assert!(calibration.hessian("lm_head").unwrap().is_none());
        assert!(calibration.hessian("model.layers.9.mlp.down_proj").unwrap().is_none());
    }
}

/// Whether they are asked for in the order of layers, as in memory, or of names, as in a file.
#[test]
fn neighbouring_blocks_are_one_part_and_no_part_is_read_twice() {
    let mut model = lm(&LmConfig { n_layers: 12, ..lm_config() }, 1);
    let by_layer: Vec<String> = model.projections().map(|map| map.name().to_owned()).collect();
    let mut by_name = by_layer.clone();
    by_name.sort();
    assert_ne!(by_layer, by_name);
    for names in [by_layer, by_name] {
        let mut calibration = Calibration::new(&mut model, vec![&TEXTS[0]], 4).unwrap();
        let mut most = 0;
        for name in names {
            assert!(calibration.hessian(&name).unwrap().is_some());
            most = most.max(calibration.found.len());
        }
        assert_eq!(calibration.n_readings(), 3);
        // 7 maps a block: never the Hessians of more than two parts.
        assert!(most < 2 * 4 * 7, "{most}");
    }
}

#[test]
fn nothing_to_read_is_refused() {
    let mut model = lm(&lm_config(), 1);
    let none = Calibration::new(&mut model, vec![], 1).unwrap_err().to_string();
    assert_eq!(none, "texts must be at least one, got none");
    let zero = Calibration::new(&mut model, vec![&[1, 2]], 0).unwrap_err().to_string();
    assert_eq!(zero, "blocks_at_once must be positive, got 0");
}

#[test]
fn the_block_stands_in_the_name() {
    assert_eq!(block_of("model.layers.12.self_attn.q_proj"), Some(12));
    assert_eq!(block_of("lm_head"), None);
}

#[test]
fn a_reading_can_be_ended_between_two_texts_and_begun_again() {
    let mut model = lm(&lm_config(), 1);
    let texts: Vec<&[i64]> = TEXTS.iter().map(<[i64; 6]>::as_slice).collect();
    let name = "model.layers.0.mlp.down_proj";
    let want = model.calibrate(&texts, &|_| true).unwrap()[name].mean().unwrap();
    let mut calibration = Calibration::new(&mut model, texts, 1).unwrap();
    let mut told = Vec::new();
    let mut end_at_second = |n_read: usize, n_texts: usize| {
        told.push((n_read, n_texts));
        if n_read == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert!(calibration.hessian_watched(name, &mut end_at_second).unwrap().is_none());
    assert_eq!(told, [(0, 2), (1, 2)]);
    assert_eq!(calibration.n_readings(), 0);
    // Nothing of the first is left in the second.
    assert_eq!(calibration.hessian(name).unwrap().unwrap().mean().unwrap(), want);
}
