use proptest::prelude::*;
use rand::Rng;
use tch::{Device, Kind, Tensor};

use super::{PackedMatrix, WeightFormat, packed_linear};
use crate::fixtures::{distance, floats, randn, rng};
use crate::kernels::machine::tests::at_every_level;

/// Random codes below `limit`, shifted by `-shift`.
fn codes(size: [i64; 2], limit: i64, shift: i64, seed: u64) -> Tensor {
    let mut rng = rng(seed);
    let codes: Vec<i64> =
        (0..size[0] * size[1]).map(|_| rng.random_range(0..limit) - shift).collect();
    Tensor::from_slice(&codes).view(size)
}

/// A packed matrix, and its weights in f64.
fn matrix(format: WeightFormat, size: [i64; 2], seed: u64) -> (PackedMatrix, Tensor) {
    match format {
        WeightFormat::Int4 { group } => {
            let codes = codes(size, 16, 0, seed);
            let groups = [size[0], size[1] / group];
            let narrow = |x: Tensor| x.to_kind(Kind::Half).to_kind(Kind::Float);
            let scale = narrow(randn(&groups, seed + 1) * 0.1);
            let offset = narrow(randn(&groups, seed + 2));
            let packed =
                PackedMatrix::int4(&codes.to_kind(Kind::Uint8), &scale, &offset, group).unwrap();
            let wide =
                |x: &Tensor| x.to_kind(Kind::Double).repeat_interleave_self_int(group, 1, None);
            (packed, codes.to_kind(Kind::Double) * wide(&scale) + wide(&offset))
        }
        WeightFormat::Int8Grouped => {
            let codes = codes(size, 255, 127, seed);
            let scale = randn(&[size[0], size[1] / 32], seed + 1) * 0.01;
            let scale = scale.to_kind(Kind::Half).to_kind(Kind::Float);
            let packed = PackedMatrix::int8_grouped(&codes.to_kind(Kind::Int8), &scale).unwrap();
            let wide = scale.to_kind(Kind::Double).repeat_interleave_self_int(32, 1, None);
            (packed, codes.to_kind(Kind::Double) * wide)
        }
        WeightFormat::Int8 => {
            let codes = codes(size, 255, 127, seed);
            let scale = randn(&[size[0]], seed + 1) * 0.01;
            let packed = PackedMatrix::int8(&codes.to_kind(Kind::Int8), &scale).unwrap();
            (packed, codes.to_kind(Kind::Double) * scale.to_kind(Kind::Double).unsqueeze(1))
        }
    }
}

/// Activations as the kernel rounds them, in f64.
fn rounded(x: &Tensor, group: i64) -> Tensor {
    let (rows, columns) = x.size2().unwrap();
    let padded = columns.div_euclid(group) * group + if columns % group == 0 { 0 } else { group };
    let x = x.to_kind(Kind::Float).constant_pad_nd([0, padded - columns]);
    let x = x.view([rows, -1, group]);
    let largest = x.abs().amax([2i64].as_slice(), true);
    let inverse = (largest.full_like(127.0) / &largest).nan_to_num(0.0, 0.0, 0.0);
    // As f32: what decides a tie is part of the definition.
    let codes = (x * inverse).round().to_kind(Kind::Double);
    (codes * (largest.to_kind(Kind::Double) / 127.0)).view([rows, padded]).narrow(1, 0, columns)
}

fn formats() -> impl Strategy<Value = (WeightFormat, i64)> {
    let int4 = |group: i64| (1..5i64).prop_map(move |n| (WeightFormat::Int4 { group }, n * group));
    prop_oneof![
        int4(32),
        int4(64),
        int4(128),
        (1..140i64).prop_map(|n| (WeightFormat::Int8, n)),
        (1..5i64).prop_map(|n| (WeightFormat::Int8Grouped, 32 * n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_equal_those_with_the_weights(
        (format, columns) in formats(),
        out in 1..70i64,
        rows in 1..20i64,
        narrow: bool,
        seed in 0..1_000u64,
    ) {
        let (packed, weight) = matrix(format, [out, columns], seed);
        let kind = if narrow { Kind::BFloat16 } else { Kind::Float };
        let x = randn(&[rows, columns], seed + 7).to_kind(kind);
        let group = match format { WeightFormat::Int4 { group } => group, _ => 32 };
        let want = rounded(&x, group).matmul(&weight.transpose(0, 1));
        // Of the sum of the sizes of the terms: rounding of sums in f32, and of the result.
        let size = x.to_kind(Kind::Double).abs().matmul(&weight.abs().transpose(0, 1));
        let allowed = floats(&size.max()) [0] * if narrow { 5e-3 } else { 2e-6 };
        at_every_level(|level| {
            let got = packed_linear(&x, &[&packed]).unwrap().remove(0);
            assert_eq!(got.kind(), kind);
            let error = distance(&got, &want);
            assert!(error <= allowed, "{level:?} {format:?}: {error} above {allowed}");
        });
    }

    #[test]
    fn weights_come_back(
        (format, columns) in formats(),
        out in 1..70i64,
        seed in 0..1_000u64,
    ) {
        let (packed, weight) = matrix(format, [out, columns], seed);
        let size = packed.size();
        let data = packed.data().copy();
        let again = PackedMatrix::from_data(data, format, size[0], size[1]).unwrap();
        let indices = Tensor::from_slice(&[out - 1, 0, out / 2, 0]).view([2, 2]);
        at_every_level(|level| {
            let got = again.dequantize(Kind::Float).unwrap();
            let largest = floats(&weight.abs().max())[0];
            assert!(distance(&got, &weight) <= 2e-7 * largest, "{level:?}");
            let rows = again.look_up(&indices, Kind::Float).unwrap();
            let want = got.index_select(0, &indices.flatten(0, -1)).view([2, 2, columns]);
            assert_eq!(rows, want);
        });
    }
}

#[test]
fn matrices_of_one_input_are_multiplied_as_each_alone() {
    let formats =
        [WeightFormat::Int4 { group: 64 }, WeightFormat::Int8, WeightFormat::Int4 { group: 32 }];
    let matrices: Vec<PackedMatrix> =
        formats.iter().zip([33, 16, 200]).map(|(&f, out)| matrix(f, [out, 128], 3).0).collect();
    let x = randn(&[5, 128], 1);
    let all = packed_linear(&x, &matrices.iter().collect::<Vec<_>>()).unwrap();
    for (matrix, together) in matrices.iter().zip(&all) {
        assert_eq!(&packed_linear(&x, &[matrix]).unwrap()[0], together);
    }
}

#[test]
fn rows_neither_see_each_other_nor_the_number_of_threads() {
    let (packed, _) = matrix(WeightFormat::Int4 { group: 32 }, [100, 64], 5);
    let x = randn(&[300, 64], 1);
    let all = packed_linear(&x, &[&packed]).unwrap().remove(0);
    tch::set_num_threads(2);
    let threaded = packed_linear(&x, &[&packed]).unwrap().remove(0);
    tch::set_num_threads(1);
    assert_eq!(all, threaded);
    for row in [0, 7, 8, 299] {
        let alone = packed_linear(&x.narrow(0, row, 1), &[&packed]).unwrap().remove(0);
        assert_eq!(alone, all.narrow(0, row, 1), "row {row}");
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    for format in [WeightFormat::Int4 { group: 32 }, WeightFormat::Int8, WeightFormat::Int8Grouped]
    {
        let (packed, _) = matrix(format, [20, 64], 5);
        let x = randn(&[3, 64], 1);
        let clean = packed_linear(&x, &[&packed]).unwrap().remove(0);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let x = x.copy();
            let _ = x.get(1).narrow(0, 40, 1).fill_(bad);
            at_every_level(|level| {
                let got = packed_linear(&x, &[&packed]).unwrap().remove(0);
                let whole = floats(&got).iter().map(|x| x.is_nan()).collect::<Vec<_>>();
                let want: Vec<bool> = (0..60).map(|i| i / 20 == 1).collect();
                assert_eq!(whole, want, "{level:?} {format:?}");
                assert!(distance(&got.get(2), &clean.get(2)) < 1e-3);
            });
        }
    }
}

#[test]
fn zeros_and_tiny_activations_give_zeros() {
    let (packed, _) = matrix(WeightFormat::Int4 { group: 32 }, [20, 64], 5);
    for size in [0.0, 1e-39] {
        let x = Tensor::ones([2, 64], (Kind::Float, Device::Cpu)) * size;
        let got = packed_linear(&x, &[&packed]).unwrap().remove(0);
        assert!(floats(&got).iter().all(|x| x.abs() < 1e-36));
    }
}

fn refused<T: std::fmt::Debug>(result: crate::Result<T>, want: &str) {
    assert_eq!(result.unwrap_err().to_string(), want);
}

#[test]
fn mistakes_are_named() {
    let codes = Tensor::zeros([4, 96], (Kind::Uint8, Device::Cpu));
    let scale = Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
    let int4 = |group| PackedMatrix::int4(&codes, &scale, &scale, group);
    refused(int4(64), "group must be a divisor of the 96 columns, got 64");
    refused(int4(48), "group must be 32, 64 or 128, got 48");
    let narrow = Tensor::zeros([4, 40], (Kind::Int8, Device::Cpu));
    refused(
        PackedMatrix::int8_grouped(&narrow, &scale),
        "group must be a divisor of the 40 columns, got 32",
    );
    let low = Tensor::full([4, 96], -128, (Kind::Int8, Device::Cpu));
    refused(PackedMatrix::int8_grouped(&low, &scale), "codes must be above -128, got -128");
    let high = &codes + 16;
    refused(PackedMatrix::int4(&high, &scale, &scale, 32), "codes must be at most 15, got 16");
    let far = &scale * 1e5;
    refused(
        PackedMatrix::int4(&codes, &scale, &far, 32),
        "offset must be at most 65,504 in size, got 100000",
    );
    let data = int4(32).unwrap().data().copy();
    refused(
        PackedMatrix::from_data(data.shallow_clone(), WeightFormat::Int8, 4, 96),
        "packed data must have shape [1, 1600], u8, contiguous, got [1, 960]",
    );
    let packed = PackedMatrix::from_data(data, WeightFormat::Int4 { group: 32 }, 4, 96).unwrap();
    refused(packed.dequantize(Kind::Half), "kind of out must be Float or BFloat16, got Half");
    let index = Tensor::from_slice(&[0i64, 4]);
    refused(packed.look_up(&index, Kind::Float), "index must be from 0 to below 4, got 4");
    let x = Tensor::zeros([2, 64], (Kind::Float, Device::Cpu));
    refused(packed_linear(&x, &[&packed]), "columns of x must be those of the matrix, 96, got 64");
    refused(packed_linear(&x, &[]), "matrices must be at least one, got 0");
}
