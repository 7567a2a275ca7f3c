use tch::Kind;

use super::*;
use crate::testing::{max_diff, normal, rng};

#[test]
fn what_is_infinite_is_not_bounded() {
    let x = Tensor::from_slice(&[f64::INFINITY, 30.0, -2.0, f64::NEG_INFINITY, 50.0, -30.0]);
    let y: Vec<f64> = Vec::try_from(gegelu(&x, Some(20.0)).unwrap()).unwrap();
    let gate = |a: f64| a / (1.0 + (-1.702 * a).exp());
    assert_eq!(y[0], f64::INFINITY);
    assert_eq!(y[1], f64::INFINITY); // a negative gate times minus infinity
    assert!((y[2] - gate(20.0) * -19.0).abs() < 1e-12);
}

#[test]
fn groups_and_pairs_of_rows_are_put_in_order() {
    let matrix = Tensor::arange(12, (Kind::Float, tch::Device::Cpu)).view([12, 1]);
    let values = |rows: Tensor| Vec::<f64>::try_from(rows.view([-1])).unwrap();
    // Two key heads of one channel pair each with one query head: q q k k v v, twice.
    let rows = values(ungrouped(&matrix, 2, 2, 2).unwrap());
    assert_eq!(rows, [0., 1., 6., 7., 2., 3., 8., 9., 4., 5., 10., 11.]);
    let rows = values(uninterleaved(&matrix).unwrap());
    assert_eq!(rows, [0., 2., 4., 6., 8., 10., 1., 3., 5., 7., 9., 11.]);
}

#[test]
fn a_sparse_layer_that_sees_all_blocks_is_dense() {
    let mut rng = rng(1);
    let x = normal(&[2, 20, 16], &mut rng);
    let mut linear = |d_out| Linear { weight: normal(&[d_out, 16], &mut rng), bias: None };
    let (qkv, dense) = (linear(32), linear(16));
    let run = |block_sparse| {
        let (n_heads, n_kv_heads) = (4, 2);
        let (rope_theta, mup_attn_multiplier) = (1e6, 1.0);
        let attention = Phi3SmallAttention {
            n_heads,
            n_kv_heads,
            rope_theta,
            mup_attn_multiplier,
            block_sparse,
        };
        attention.forward(&x, &qkv, &dense).unwrap()
    };
    let all = BlockSparse { block_size: 4, n_local_blocks: 5, vertical_stride: 100 };
    // The same sums by another path of libtorch's attention; values of size 10.
    assert!(max_diff(&run(None), &run(Some(all))) < 1e-4);
    let few = BlockSparse { n_local_blocks: 1, ..all };
    assert!(max_diff(&run(None), &run(Some(few))) > 0.1);
}
