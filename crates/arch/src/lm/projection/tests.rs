use forerun_tensors::kernels::WeightFormat;
use tch::{Device, Kind, Tensor};

use super::{Joined, Linear, Map, Projection};
use crate::lm::Pass;
use crate::lora::{Adapter, LoraConfig};
use crate::quantize::{PackedLinear, round_to_nearest};
use crate::testing::{max_diff, normal, rng};

const FORMAT: WeightFormat = WeightFormat::Int4 { group: 32 };

fn plain(out: i64, seed: u64) -> Linear {
    let bias = Some(normal(&[out], &mut rng(seed + 100)));
    Linear { weight: normal(&[out, 64], &mut rng(seed)), bias }
}

fn packed(out: i64, seed: u64) -> PackedLinear {
    let Linear { weight, bias } = plain(out, seed);
    PackedLinear { matrix: round_to_nearest(&weight, FORMAT).unwrap(), bias }
}

fn map(map: impl Into<Map>) -> Projection {
    Projection::new("model.layers.0.x", map).unwrap()
}

fn adapter(out: i64) -> Adapter {
    let config = LoraConfig { rank: 2, ..LoraConfig::default() };
    let (a, b) = (normal(&[2, 64], &mut rng(7)), normal(&[out, 2], &mut rng(8)));
    Adapter::from_tensors(&config, a, b).unwrap()
}

#[test]
fn joined_maps_are_what_each_is_alone() {
    let _no_grad = tch::no_grad_guard();
    let makers: [fn(i64, u64) -> Projection; 3] = [
        |out, seed| map(plain(out, seed)),
        |out, seed| map(packed(out, seed)),
        |out, seed| if seed % 2 == 0 { map(packed(out, seed)) } else { map(plain(out, seed)) },
    ];
    for (i, make) in makers.iter().enumerate() {
        let mut joined =
            Joined { maps: vec![make(30, 1), make(10, 2), make(20, 3)], widths: vec![30, 10, 20] };
        for adapted in [false, true] {
            if adapted {
                joined.maps[2].set_adapter(Some(adapter(20))).unwrap();
            }
            for rows in [1, 40] {
                let x = normal(&[rows, 64], &mut rng(5));
                let pass = Pass::inference(Device::Cpu, rows, Kind::Float);
                let together = joined.run(&x, pass).unwrap();
                for (map, got) in joined.maps.iter().zip(&together) {
                    let want = map.forward(&x).unwrap();
                    assert!(max_diff(got, &want) < 1e-4, "{i}, {rows} rows, adapted {adapted}");
                }
            }
        }
    }
}

#[test]
fn one_packed_map_is_cut_into_pieces() {
    let joined = Joined { maps: vec![map(packed(60, 1))], widths: vec![30, 10, 20] };
    let x = normal(&[3, 64], &mut rng(5));
    let pieces = joined.run(&x, Pass::inference(Device::Cpu, 3, Kind::Float)).unwrap();
    assert_eq!(Tensor::cat(&pieces, 1), joined.maps[0].forward(&x).unwrap());
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut own = map(plain(30, 1));
    let refused = own.exchange(packed(20, 1)).unwrap_err().to_string();
    assert_eq!(refused, "size of `model.layers.0.x` must be [30, 64], got [20, 64]");
    let refused = own.set_adapter(Some(adapter(20))).unwrap_err().to_string();
    assert_eq!(refused, "adapter of `model.layers.0.x` must be for [30, 64], got [20, 64]");
    own.set_adapter(Some(adapter(30))).unwrap();
    own.merge().unwrap();
    let refused = own.exchange(packed(30, 1)).unwrap_err().to_string();
    assert_eq!(refused, "adapter of `model.layers.0.x` must be not merged, got merged");
    own.unmerge();
    assert!(matches!(own.exchange(packed(30, 1)).unwrap(), Map::Plain(_)));
    let bias = Some(normal(&[9], &mut rng(1)));
    let wrong = PackedLinear { bias, ..packed(30, 1) };
    let refused = Projection::new("x", wrong).unwrap_err().to_string();
    assert_eq!(refused, "bias must have shape [30], got [9]");
}

#[test]
fn observing_counts_inputs_and_changes_no_output() {
    let mut own = map(plain(30, 1));
    let x = normal(&[3, 64], &mut rng(5));
    let before = own.forward(&x).unwrap();
    own.observe(true).unwrap();
    assert_eq!(own.forward(&x).unwrap(), before);
    assert_eq!(own.forward(&x).unwrap(), before);
    let seen = own.observe(false).unwrap().unwrap();
    assert_eq!(seen.rows(), 6);
    let want = x.transpose(0, 1).matmul(&x) / 3.0;
    assert!(max_diff(&seen.mean().unwrap(), &want) < 1e-4);
    assert!(own.observe(false).unwrap().is_none());
}
