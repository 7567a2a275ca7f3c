//! The distributions that tests and intervals need: normal, Student's t, F, chi-squared.

/// `ln Γ(x)` for positive `x`, Lanczos' approximation with nine terms, 15 digits.
pub fn ln_gamma(x: f64) -> f64 {
    const C: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).ln() - ln_gamma(1. - x);
    }
    let x = x - 1.;
    let sum = (1..9).fold(C[0], |sum, i| sum + C[i] / (x + i as f64));
    let t = x + 7.5;
    0.5 * (2. * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The regularised incomplete beta function `I_x(a, b)`, by Lentz's continued fraction.
pub fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0. {
        return 0.;
    }
    if x >= 1. {
        return 1.;
    }
    let front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    if x < (a + 1.) / (a + b + 2.) {
        front.exp() * beta_fraction(a, b, x) / a
    } else {
        1. - front.exp() * beta_fraction(b, a, 1. - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let keep = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1., 1. / keep(1. - (a + b) * x / (a + 1.)));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2. * m - 1.) * (a + 2. * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2. * m) * (a + 2. * m + 1.));
        let mut change = 1.;
        for step in [even, odd] {
            d = 1. / keep(1. + step * d);
            c = keep(1. + step / c);
            change = c * d;
            fraction *= change;
        }
        if (change - 1.).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

/// `P(F > f)` with `df1` and `df2` degrees of freedom; small tails keep their digits.
pub fn f_tail(f: f64, df1: f64, df2: f64) -> f64 {
    if f <= 0. {
        return 1.;
    }
    incomplete_beta(0.5 * df2, 0.5 * df1, df2 / (df2 + df1 * f))
}

/// `P(|T| > |t|)` of Student's t.
pub fn student_two_sided(t: f64, df: f64) -> f64 {
    f_tail(t * t, 1., df)
}

/// The `p`-quantile of Student's t, by bisection on its tail.
pub fn student_quantile(p: f64, df: f64) -> f64 {
    if p < 0.5 {
        return -student_quantile(1. - p, df);
    }
    let tail = 2. * (1. - p);
    let (mut low, mut high) = (0., 1.);
    while student_two_sided(high, df) > tail && high < 1e15 {
        high *= 2.;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if student_two_sided(middle, df) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The `p`-quantile of the standard normal distribution.
///
/// Wichura 1988, algorithm AS 241 (PPND16), 16 digits.
pub fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * ratio(&CENTRE, r);
    }
    let r = (-p.min(1. - p).ln()).sqrt();
    let size = if r <= 5. { ratio(&MIDDLE, r - 1.6) } else { ratio(&FAR, r - 5.) };
    if q < 0. { -size } else { size }
}

/// A ratio of two polynomials of degree 7, coefficients ascending.
fn ratio(coefficients: &[[f64; 8]; 2], x: f64) -> f64 {
    let [above, below] = coefficients.map(|c| c.iter().rev().fold(0., |sum, c| sum * x + c));
    above / below
}

const CENTRE: [[f64; 8]; 2] = [
    [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ],
    [
        1.,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_545,
    ],
];
const MIDDLE: [[f64; 8]; 2] = [
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        7.745_450_142_783_414e-4,
    ],
    [
        1.,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_8e-9,
    ],
];
const FAR: [[f64; 8]; 2] = [
    [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    [
        1.,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_7e-15,
    ],
];

#[cfg(test)]
mod tests;
