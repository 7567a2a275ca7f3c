use tch::Kind;

use super::*;
use crate::testing::{max_diff, normal, rng};

fn check(activation: Activation, formula: &dyn Fn(&Tensor, &Tensor) -> Tensor) {
    let mut rng = rng(1);
    let x = normal(&[2, 3, 6], &mut rng);
    let mut matrix = |out, fan_in| (normal(&[out, fan_in], &mut rng), normal(&[out], &mut rng));
    let (w1, b1) = matrix(10, 6);
    let (wg, bg) = matrix(10, 6);
    let (w2, b2) = matrix(6, 10);
    let wide = |w: &Tensor, b: &Tensor| x.matmul(&w.tr()) + b;
    let want = formula(&wide(&w1, &b1), &wide(&wg, &bg)).matmul(&w2.tr()) + &b2;
    let mlp = Mlp {
        activation,
        fc1: Linear { weight: w1, bias: Some(b1) },
        gate: (activation == Activation::SwiGlu).then(|| Linear { weight: wg, bias: Some(bg) }),
        fc2: Linear { weight: w2, bias: Some(b2) },
        norm: None,
        activation_dropout: 0.5,
        dropout: 0.5,
    };
    let got = mlp.forward(&x, false).unwrap();
    // f32 sums of ten products of size up to 30.
    assert!(max_diff(&got, &want) < 1e-4, "{activation:?}");
    let dropped = mlp.forward(&x, true).unwrap();
    assert!(i64::try_from(dropped.eq(0.0).sum(Kind::Int64)).unwrap() > 3, "dropout does nothing");
}

#[test]
fn every_activation_equals_its_formula() {
    let gelu = |x: &Tensor, _: &Tensor| x * 0.5 * ((x / 2_f64.sqrt()).erf() + 1.0);
    check(Activation::Gelu, &gelu);
    check(Activation::Relu, &|x, _| x.clamp_min(0.0));
    check(Activation::Swish, &|x, _| x * x.sigmoid());
    check(Activation::SwiGlu, &|x, gate| x * x.sigmoid() * gate);
}
