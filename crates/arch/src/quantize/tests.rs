use forerun_tensors::kernels::WeightFormat;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use tch::{Device, Kind, Tensor};

use super::{Gptq, Hessian, PackedLinear, gptq, round_to_nearest};

fn rng(seed: u64) -> ChaCha20Rng {
    tch::set_num_threads(1);
    ChaCha20Rng::seed_from_u64(seed)
}

pub(super) fn randn(size: &[i64], seed: u64) -> Tensor {
    forerun_tensors::init::normal(size, 1.0, &mut rng(seed), Device::Cpu).unwrap()
}

pub(super) fn number(x: &Tensor) -> f64 {
    f64::try_from(x.to_kind(Kind::Double)).unwrap()
}

/// Inputs whose channels differ in size and depend on each other.
pub(super) fn inputs(rows: i64, channels: i64, seed: u64) -> Tensor {
    let mut rng = rng(seed);
    let sizes: Vec<f32> = (0..channels).map(|_| 2f32.powf(rng.random_range(-3.0..3.0))).collect();
    let mix = randn(&[channels, channels], seed + 1) / (channels as f64).sqrt();
    let own = randn(&[rows, channels], seed + 2);
    (own.matmul(&mix) + own * 0.5) * Tensor::from_slice(&sizes)
}

pub(super) fn hessian_of(x: &Tensor) -> Hessian {
    let mut hessian = Hessian::new(x.size()[1]).unwrap();
    hessian.add(x).unwrap();
    hessian
}

pub(super) const FORMATS: [WeightFormat; 4] = [
    WeightFormat::Int8,
    WeightFormat::Int4 { group: 32 },
    WeightFormat::Int4 { group: 64 },
    WeightFormat::Int4 { group: 128 },
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_weight_is_moved_further_than_half_a_step(
        format in prop::sample::select([&FORMATS[..], &[WeightFormat::Int8Grouped]].concat()),
        out in 1..40i64,
        groups in 1..4i64,
        shift in -3.0..3.0f64,
        seed in 0..1_000u64,
    ) {
        let columns = 128 * groups;
        let weight = randn(&[out, columns], seed) + shift;
        let rounded = round_to_nearest(&weight, format).unwrap().dequantize(Kind::Float).unwrap();
        let group = match format {
            WeightFormat::Int4 { group } => group,
            WeightFormat::Int8Grouped => 32,
            WeightFormat::Int8 => columns,
        };
        let grouped = weight.view([out, -1, group]);
        let step = match format {
            WeightFormat::Int8 | WeightFormat::Int8Grouped => {
                grouped.abs().amax([2i64].as_slice(), true) / 127.0
            }
            WeightFormat::Int4 { .. } => {
                let last = [2i64].as_slice();
                (grouped.amax(last, true) - grouped.amin(last, true)) / 15.0
            }
        };
        // Scale and offset have 11 bits: the ends of a group may lie 15/4096 of a step and 1/4096 of the offset further.
        let slack = match format {
            WeightFormat::Int8 => Tensor::from(1e-5),
            _ => &step * 0.01 + grouped.abs().amax([2i64].as_slice(), true) / 2000.0,
        };
        let moved = (rounded.view([out, -1, group]) - grouped).abs();
        prop_assert!(bool::try_from(moved.le_tensor(&(step * 0.5 + slack)).all()).unwrap());
    }
}

#[test]
fn independent_inputs_leave_gptq_nothing_to_gain() {
    // With a Hessian that is a multiple of the identity no column can make up for another.
    let weight = randn(&[16, 64], 1);
    let x = Tensor::eye(64, (Kind::Float, Device::Cpu));
    for format in [WeightFormat::Int8, WeightFormat::Int4 { group: 32 }] {
        let nearest = round_to_nearest(&weight, format).unwrap();
        let same = gptq(&weight, &hessian_of(&x), format, &Gptq::default()).unwrap();
        assert_eq!(same.data(), nearest.data());
    }
}

#[test]
fn constant_and_dead_channels_are_no_trouble() {
    let weight = Tensor::full([20, 64], 0.75, (Kind::Float, Device::Cpu));
    let x = Tensor::zeros([10, 64], (Kind::Float, Device::Cpu));
    let format = WeightFormat::Int4 { group: 32 };
    let rounded = gptq(&weight, &hessian_of(&x), format, &Gptq::default()).unwrap();
    assert_eq!(rounded.dequantize(Kind::Float).unwrap(), weight);
    assert_eq!(round_to_nearest(&weight, format).unwrap().data(), rounded.data());
}

#[test]
fn a_hessian_is_the_same_however_the_rows_come() {
    let x = inputs(30, 8, 1);
    let mut parts = Hessian::new(8).unwrap();
    parts.add(&x.narrow(0, 0, 10)).unwrap();
    parts.add(&x.narrow(0, 10, 20).view([4, 5, 8])).unwrap();
    assert_eq!((parts.rows(), parts.channels()), (30, 8));
    let want = x.to_kind(Kind::Double);
    let want = want.transpose(0, 1).matmul(&want) / 30.0;
    let distance = number(&(parts.mean().unwrap() - &want).abs().max());
    assert!(distance < 1e-5 * number(&want.abs().max()), "{distance}");
}

#[test]
fn the_packed_product_is_the_reference_up_to_rounded_activations() {
    let weight = randn(&[50, 256], 1);
    let bias = Some(randn(&[50], 2));
    let x = inputs(9, 256, 3);
    for format in FORMATS {
        let matrix = round_to_nearest(&weight, format).unwrap();
        let linear = PackedLinear { matrix, bias: bias.as_ref().map(Tensor::shallow_clone) };
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            let x = x.to_kind(kind);
            let got = linear.forward(&x).unwrap();
            assert_eq!(got.kind(), kind);
            let want = linear.reference(&x.to_kind(Kind::Float)).unwrap();
            let error =
                (got - &want).square().mean(Kind::Double) / want.square().mean(Kind::Double);
            // Up to 128 channels, some 64 times as large as others, share a scale of 8 bits.
            assert!(number(&error) < 1e-3, "{format} {kind:?}: {error}");
        }
    }
}

#[test]
fn gradients_go_through_the_weights_as_numbers() {
    let matrix = round_to_nearest(&randn(&[20, 64], 1), WeightFormat::Int4 { group: 32 }).unwrap();
    let weight = matrix.dequantize(Kind::Float).unwrap();
    let linear = PackedLinear { matrix, bias: None };
    let x = randn(&[3, 64], 2).set_requires_grad(true);
    let y = linear.forward(&x).unwrap();
    let dy = randn(&[3, 20], 3);
    forerun_tensors::backward(&(y * &dy).sum(Kind::Float)).unwrap();
    let distance = number(&(x.grad() - dy.matmul(&weight)).abs().max());
    assert!(distance < 1e-4, "{distance}");
}
