use tch::{Device, Kind, Tensor};

use super::{normal, uniform, xavier_normal};
use crate::error::Result;
use crate::fixtures::{floats, generator_lock, rng};
use crate::generator::generator_state;

/// Mean and standard deviation.
fn moments(tensor: &Tensor) -> (f64, f64) {
    let numbers = floats(tensor);
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / numbers.len() as f64;
    (mean, variance.sqrt())
}

#[test]
fn numbers_have_the_stated_spread() {
    // 40 000 numbers: the mean is off by std/200, the deviation by std/280; four times that is allowed.
    let near = |(mean, std): (f64, f64), want: f64| {
        assert!(
            mean.abs() < 0.02 * want && (std / want - 1.0).abs() < 0.015,
            "{mean}, {std}, {want}"
        );
    };
    let cpu = Device::Cpu;
    let drawn = normal(&[200, 200], 0.02, &mut rng(1), cpu).unwrap();
    assert_eq!((drawn.size(), drawn.kind()), (vec![200, 200], Kind::Float));
    near(moments(&drawn), 0.02);
    let drawn = uniform(&[200, 200], 0.3, &mut rng(2), cpu).unwrap();
    near(moments(&drawn), 0.3 / 3f64.sqrt());
    assert!(floats(&drawn).iter().all(|x| x.abs() <= 0.3 + 1e-7));
    let drawn = xavier_normal(&[100, 400], 1.5, &mut rng(3), cpu).unwrap();
    near(moments(&drawn), 1.5 * (2.0 / 500f64).sqrt());
}

#[test]
fn a_large_tensor_is_drawn_like_a_small_one() {
    use rand::Rng;
    let many = super::DRAWN as i64 + 1000;
    let drawn = floats(&normal(&[many], 2.0, &mut rng(4), Device::Cpu).unwrap());
    let mut rng = rng(4);
    let expected = (0..many).map(|_| 2.0 * rng.sample::<f32, _>(rand_distr::StandardNormal));
    assert!(expected.zip(&drawn).all(|(expected, &got)| (f64::from(expected) - got).abs() < 1e-6));
}

#[test]
fn a_seed_is_a_tensor_and_libtorch_draws_nothing() {
    let _alone = generator_lock();
    let before = generator_state(Device::Cpu).unwrap();
    let draw = |seed| floats(&normal(&[3, 3], 1.0, &mut rng(seed), Device::Cpu).unwrap());
    assert_eq!(draw(5), draw(5));
    assert_ne!(draw(5), draw(6));
    let mut shared = rng(5);
    let first = floats(&normal(&[3, 3], 1.0, &mut shared, Device::Cpu).unwrap());
    let second = floats(&normal(&[3, 3], 1.0, &mut shared, Device::Cpu).unwrap());
    assert_eq!(first, draw(5));
    assert_ne!(second, first, "the generator is used up as it goes");
    assert_eq!(generator_state(Device::Cpu).unwrap(), before);
    assert_eq!(normal(&[0, 3], 1.0, &mut rng(1), Device::Cpu).unwrap().size(), [0, 3]);
    assert_eq!(uniform(&[], 1.0, &mut rng(1), Device::Cpu).unwrap().size(), [0i64; 0]);
}

#[test]
fn bad_arguments_are_named() {
    let check = |result: Result<Tensor>, want: &str| {
        assert_eq!(result.unwrap_err().to_string(), want);
    };
    let (mut r, cpu) = (rng(1), Device::Cpu);
    check(normal(&[2], -1.0, &mut r, cpu), "std must be finite and not negative, got -1");
    check(uniform(&[2], f64::NAN, &mut r, cpu), "bound must be finite and not negative, got NaN");
    let sizes = "shape must be sizes that are not negative and fit in memory, got";
    check(normal(&[2, -1], 1.0, &mut r, cpu), &format!("{sizes} [2, -1]"));
    check(normal(&[1 << 40, 1 << 40], 1.0, &mut r, cpu), &format!("{sizes} {:?}", [1i64 << 40; 2]));
    check(xavier_normal(&[2], 1.0, &mut r, cpu), "shape must have shape [out, in], got [2]");
    check(xavier_normal(&[2, 0], 1.0, &mut r, cpu), "shape must have shape [out, in], got [2, 0]");
    check(
        xavier_normal(&[2, 2], -2.0, &mut r, cpu),
        "gain must be finite and not negative, got -2",
    );
}
