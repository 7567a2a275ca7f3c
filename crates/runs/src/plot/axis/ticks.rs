//! Ticks at round numbers, with labels that differ and are no longer than needed.

use super::Scale;

/// Round numbers along an axis, in increasing order, each with its label.
#[derive(Clone, Debug, Default)]
pub(in crate::plot) struct Ticks {
    /// Values and labels.
    pub(in crate::plot) major: Vec<(f64, String)>,
    /// Values between them, without labels.
    pub(in crate::plot) minor: Vec<f64>,
}

/// Mantissas of logarithmic ticks, from dense to sparse.
const MANTISSAS: [&[u8]; 4] = [&[1, 2, 3, 4, 5, 6, 7, 8, 9], &[1, 2, 5], &[1, 3], &[1]];
const SUFFIXES: [(f64, i32, &str); 4] =
    [(1e12, 12, "T"), (1e9, 9, "B"), (1e6, 6, "M"), (1e3, 3, "k")];

impl Ticks {
    /// About `want` ticks, two more at most, of which the first lies at or below `low` and the
    /// last at or above `high`.
    pub(super) fn new(scale: Scale, low: f64, high: f64, want: usize) -> Self {
        let want = want.max(2);
        match scale {
            Scale::Linear => linear(low, high, want),
            // Up to a factor of three, round numbers are denser than mantissas or powers.
            Scale::Log10 | Scale::Log2 if high < 3.0 * low => linear(low, high, want),
            Scale::Log10 => log10(low, high, want),
            Scale::Log2 => log2(low, high, want),
        }
    }

    pub(in crate::plot) fn first(&self) -> Option<f64> {
        self.major.first().map(|tick| tick.0)
    }

    pub(in crate::plot) fn last(&self) -> Option<f64> {
        self.major.last().map(|tick| tick.0)
    }

    /// Drops the ticks for which `keep` is false.
    pub(super) fn keep(&mut self, keep: impl Fn(f64) -> bool) {
        self.major.retain(|tick| keep(tick.0));
        self.minor.retain(|&tick| keep(tick));
    }
}

fn linear(low: f64, high: f64, want: usize) -> Ticks {
    let raw = (high - low) / want as f64;
    let mut power = raw.log10().floor() as i32;
    let mantissa = raw / 10_f64.powi(power);
    let mut digit = match mantissa {
        m if m <= 1.000_001 => 1,
        m if m <= 2.000_001 => 2,
        m if m <= 5.000_001 => 5,
        _ => 10,
    };
    if digit == 10 {
        (digit, power) = (1, power + 1);
    }
    let step = f64::from(digit) * 10_f64.powi(power);
    // A millionth of a step is no reason for another tick.
    let first = (low / step + 1e-6).floor() as i64;
    let last = (high / step - 1e-6).ceil() as i64;
    let value = |i: i64| match power {
        // Exact division where multiplication by 0.1 would not be.
        -22..=-1 => (i * i64::from(digit)) as f64 / 10_f64.powi(-power),
        _ => i as f64 * step,
    };
    let values: Vec<f64> = (first..=last).map(value).collect();
    Ticks { major: labelled(&values, power), minor: Vec::new() }
}

fn log10(low: f64, high: f64, want: usize) -> Ticks {
    let first = power_at_most(10.0, low, low.log10());
    let last = (high.log10() - 1e-9).ceil() as i32;
    for mantissas in MANTISSAS {
        let ticks = between(low, high, decades(first..=last, mantissas));
        if ticks.len() <= want + 2 {
            let rest: Vec<u8> = (1..=9).filter(|m| !mantissas.contains(m)).collect();
            let minor = decades(first..=last, &rest).into_iter().map(decimal).collect();
            return Ticks { major: decade_ticks(&ticks), minor };
        }
    }
    let (powers, skipped) = every(first, last, want);
    let ticks: Vec<(u8, i32)> = powers.into_iter().map(|power| (1, power)).collect();
    let minor = skipped.into_iter().map(|power| decimal((1, power))).collect();
    Ticks { major: decade_ticks(&ticks), minor }
}

fn log2(low: f64, high: f64, want: usize) -> Ticks {
    let first = power_at_most(2.0, low, low.log2());
    let last = (high.log2() - 1e-9).ceil() as i32;
    let (powers, skipped) = every(first, last, want);
    let as_power = powers.iter().any(|&p| !(-4..=17).contains(&p));
    let label = |power: i32| match as_power {
        true => format!("2{}", superscript(power)),
        false => 2_f64.powi(power).to_string(),
    };
    let major = powers.iter().map(|&power| (2_f64.powi(power), label(power))).collect();
    Ticks { major, minor: skipped.into_iter().map(|power| 2_f64.powi(power)).collect() }
}

/// The powers from `first` to at least `last` in equal steps, about `want`; and those between.
fn every(first: i32, last: i32, want: usize) -> (Vec<i32>, Vec<i32>) {
    let span = (last - first).max(1);
    let step = (span as usize).div_ceil(want).max(1) as i32;
    let last = first + (span as usize).div_ceil(step as usize) as i32 * step;
    (first..=last).partition(|power| (power - first) % step == 0)
}

/// The power of `base` at or just below `low`, forgiving a rounding error.
fn power_at_most(base: f64, low: f64, log: f64) -> i32 {
    let power = (log + 1e-9).floor() as i32;
    if base.powi(power) > low * (1.0 + 1e-9) { power - 1 } else { power }
}

fn decades(powers: std::ops::RangeInclusive<i32>, mantissas: &[u8]) -> Vec<(u8, i32)> {
    powers.flat_map(|power| mantissas.iter().map(move |&m| (m, power))).collect()
}

/// The candidates from the last at or below `low` to the first at or above `high`.
fn between(low: f64, high: f64, candidates: Vec<(u8, i32)>) -> Vec<(u8, i32)> {
    let low_at = candidates.iter().rposition(|&c| decimal(c) <= low * (1.0 + 1e-9)).unwrap_or(0);
    let high_at = candidates.iter().position(|&c| decimal(c) >= high * (1.0 - 1e-9));
    let end = high_at.map_or(candidates.len(), |i| i + 1).max(low_at);
    candidates[low_at..end].to_vec()
}

fn decimal((mantissa, power): (u8, i32)) -> f64 {
    match power {
        -22..=-1 => f64::from(mantissa) / 10_f64.powi(-power),
        _ => f64::from(mantissa) * 10_f64.powi(power),
    }
}

/// Labels for powers of ten and their multiples; where one below 1 needs an exponent, all do.
fn decade_ticks(ticks: &[(u8, i32)]) -> Vec<(f64, String)> {
    let plain = if ticks.iter().any(|tick| tick.1 < -3) { 0..=3 } else { -3..=3 };
    let label = |(mantissa, power): (u8, i32)| match power {
        _ if plain.contains(&power) => decimal((mantissa, power)).to_string(),
        4..=14 => {
            let zeros = "0".repeat((power % 3) as usize);
            let suffix = SUFFIXES[(4 - power / 3) as usize].2;
            format!("{mantissa}{zeros}{suffix}")
        }
        _ => format!("{mantissa}e{power}"),
    };
    ticks.iter().map(|&tick| (decimal(tick), label(tick))).collect()
}

/// Labels for multiples of `digit · 10^power`: plain, with a suffix, or with an exponent.
fn labelled(values: &[f64], power: i32) -> Vec<(f64, String)> {
    let largest = values.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let label = |value: f64| {
        if value == 0.0 {
            return "0".to_owned();
        }
        if !(1e-3..1e15).contains(&largest) {
            let exponent = value.abs().log10().floor() as i32;
            return format!("{value:.*e}", usize::try_from(exponent - power).unwrap_or(0));
        }
        let suffix = SUFFIXES.iter().find(|suffix| largest >= suffix.0 && largest >= 1e4);
        let (scale, shift, suffix) = suffix.copied().unwrap_or((1.0, 0, ""));
        format!("{:.*}{suffix}", usize::try_from(shift - power).unwrap_or(0), value / scale)
    };
    values.iter().map(|&value| (value, crate::number::typographic(&label(value)))).collect()
}

fn superscript(power: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digit = |c: char| c.to_digit(10).map_or('⁻', |d| DIGITS[d as usize]);
    power.to_string().chars().map(digit).collect()
}
