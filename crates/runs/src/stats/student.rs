//! Student's t: its distribution, and intervals of means of normal samples.

use super::{Interval, check, mean, variance};
use crate::error::Result;

/// Interval of the mean of a normal population: x̄ ± t·s/√n (Student 1908). For paired arms, give it
/// their differences.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for fewer than two values, one that is not finite, or a
/// confidence that is not between 0 and 1.
pub fn student_interval(values: &[f64], confidence: f64) -> Result<Interval> {
    check("values", values, 2, confidence)?;
    let n = values.len() as f64;
    let error = (variance(values) / n).sqrt();
    Ok(around(mean(values), error, n - 1.0, confidence))
}

/// Interval of mean(`a`) − mean(`b`) of two normal populations whose spreads may differ (Welch 1947).
/// Two samples without any spread give a single point.
///
/// # Errors
/// As [`student_interval`], for either sample.
pub fn welch_interval(a: &[f64], b: &[f64], confidence: f64) -> Result<Interval> {
    check("a", a, 2, confidence)?;
    check("b", b, 2, confidence)?;
    let variances = [variance(a), variance(b)];
    Ok(welch(mean(a) - mean(b), variances, [a.len(), b.len()], confidence))
}

/// Welch's interval from means and variances.
pub(crate) fn welch(
    difference: f64,
    variances: [f64; 2],
    sizes: [usize; 2],
    confidence: f64,
) -> Interval {
    let n = sizes.map(|n| n as f64);
    let shares = [variances[0] / n[0], variances[1] / n[1]];
    let square = shares[0] + shares[1];
    if square == 0.0 {
        return Interval { low: difference, high: difference };
    }
    // Welch–Satterthwaite; scaled by `square` first, so that tiny variances do not underflow.
    let parts = [0, 1].map(|i| (shares[i] / square).powi(2) / (n[i] - 1.0));
    around(difference, square.sqrt(), 1.0 / (parts[0] + parts[1]), confidence)
}

/// `centre` ± t·`error`.
pub(crate) fn around(centre: f64, error: f64, freedom: f64, confidence: f64) -> Interval {
    let reach = student_quantile(f64::midpoint(1.0, confidence), freedom) * error;
    Interval { low: centre - reach, high: centre + reach }
}

/// Probability that Student's t with `freedom` degrees of freedom, any number above 0, is at most `t`.
pub fn student_cdf(t: f64, freedom: f64) -> f64 {
    let tail = upper_tail(t.abs(), freedom);
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// Value that Student's t stays below with probability `p`; `NaN` unless 0 < `p` < 1 and `freedom` > 0.
pub fn student_quantile(p: f64, freedom: f64) -> f64 {
    if !(p > 0.0 && p < 1.0 && freedom > 0.0) {
        return f64::NAN;
    }
    if p < 0.5 {
        return -student_quantile(1.0 - p, freedom);
    }
    if p == 0.5 {
        return 0.0;
    }
    let tail = 1.0 - p;
    let (mut low, mut high) = (0.0, 1.0);
    while upper_tail(high, freedom) > tail {
        (low, high) = (high, 2.0 * high);
        if !f64::is_finite(high) {
            return f64::INFINITY;
        }
    }
    // Newton's step where it stays in the bracket, halving where it does not.
    let mut t = f64::midpoint(low, high);
    for _ in 0..200 {
        let excess = upper_tail(t, freedom) - tail;
        if excess > 0.0 {
            low = t
        } else {
            high = t
        }
        let step = t + excess / density(t, freedom);
        let next = if low < step && step < high { step } else { f64::midpoint(low, high) };
        if (next - t).abs() <= 1e-14 * t {
            return next;
        }
        t = next;
    }
    t
}

/// Probability above `t`, for `t` at least 0: half the incomplete beta function at f / (f + t²).
fn upper_tail(t: f64, freedom: f64) -> f64 {
    if t == 0.0 {
        return 0.5;
    }
    let square = t * t;
    0.5 * incomplete_beta(
        freedom / 2.0,
        0.5,
        freedom / (freedom + square),
        square / (freedom + square),
    )
}

fn density(t: f64, freedom: f64) -> f64 {
    let log_scale = ln_beta(freedom / 2.0, 0.5) + 0.5 * freedom.ln();
    (-(freedom + 1.0) / 2.0 * (t * t / freedom).ln_1p() - log_scale).exp()
}

/// Regularised incomplete beta function at `x`, with `y` = 1 − `x` given apart to keep its digits
/// (NIST DLMF 8.17.22 and the symmetry 8.17.4).
fn incomplete_beta(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if y <= 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() + b * y.ln() - ln_beta(a, b)).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, y) / b
    }
}

/// The continued fraction of the incomplete beta function, by Lentz's method as Thompson and Barnett
/// (1986) changed it.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let guard = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..2000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / guard(1.0 + term * d);
            c = guard(1.0 + term / c);
            change = c * d;
            fraction *= change;
        }
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Logarithm of the gamma function for `x` > 0: Stirling's series (NIST DLMF 5.11.1) above 12, reached
/// by Γ(x + 1) = x Γ(x). Good to about 1e-15 relative to the largest term.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 12.0 {
        product *= x;
        x += 1.0;
    }
    const SERIES: [f64; 6] =
        [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0];
    let inverse = 1.0 / (x * x);
    let correction = SERIES.iter().rev().fold(0.0, |sum, term| sum * inverse + term) / x;
    let half_ln_tau = 0.5 * std::f64::consts::TAU.ln();
    (x - 0.5) * x.ln() - x + half_ln_tau + correction - f64::ln(product)
}
