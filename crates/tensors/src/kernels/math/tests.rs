use super::{erf, exp, sigmoid};
use crate::kernels::machine::tests::at_every_level;
use crate::kernels::machine::{Job, Machine, run};

struct All<'a>(&'a [f32], &'a mut [[f32; 3]]);

impl Job for All<'_> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        for (x, y) in self.0.iter().zip(self.1) {
            *y = [exp::<M>(*x), erf::<M>(*x), sigmoid::<M>(*x)];
        }
    }
}

fn at(x: &[f32]) -> Vec<[f32; 3]> {
    let mut y = vec![[0.0; 3]; x.len()];
    run([All(x, &mut y)], 1).unwrap();
    y
}

/// By its series, in f64; below 4 its terms stay under 1e6, so that 1e-9 of 1 is right.
fn erf64(x: f64) -> f64 {
    if x.abs() > 4.5 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn functions_are_right_to_a_few_units_in_the_last_place() {
    let unit = 2f64.powi(-24);
    let x: Vec<f32> = (-86_999..=88_700).map(|i| i as f32 * 1e-3).collect();
    at_every_level(|level| {
        // Without fused multiply-add every step rounds twice.
        for (&x, y) in x.iter().zip(at(&x)) {
            let wide = f64::from(x);
            let off = |got: f32, want: f64| (f64::from(got) - want).abs() / want.abs() / unit;
            assert!(off(y[0], wide.exp()) < 4.0, "{level:?}: exp({x}) is {}", y[0]);
            assert!(x == 0.0 || off(y[1], erf64(wide)) < 10.0, "{level:?}: erf({x}) is {}", y[1]);
            let want = 1.0 / (1.0 + (-wide).exp());
            assert!(off(y[2], want) < 6.0, "{level:?}: sigmoid({x}) is {}", y[2]);
        }
    });
}

#[test]
fn the_ends_are_exact() {
    let x = [f32::NEG_INFINITY, -1e30, -100.0, 0.0, 100.0, 1e30, f32::INFINITY];
    at_every_level(|level| {
        let found = at(&x);
        let exps: Vec<f32> = found.iter().map(|y| y[0]).collect();
        let inf = f32::INFINITY;
        assert_eq!(exps, [0.0, 0.0, 0.0, 1.0, inf, inf, inf], "{level:?}");
        let erfs: Vec<f32> = found.iter().map(|y| y[1]).collect();
        assert_eq!(erfs, [-1.0, -1.0, -1.0, 0.0, 1.0, 1.0, 1.0], "{level:?}");
        for bits in [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0x7fff_ffff, 0xffc1_2345u32] {
            let nan = f32::from_bits(bits);
            assert!(at(&[nan])[0].iter().all(|y| y.is_nan()), "{level:?} {bits:x}");
        }
    });
}
