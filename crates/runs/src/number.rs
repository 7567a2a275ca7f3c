//! Numbers as people read them: significant digits, uncertainties, counts.

/// `value` with `digits` significant digits; whole parts are never rounded away below a
/// million: `12345.6` with 3 digits is `12346`.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    let digits = digits.clamp(1, 17);
    if let Some(text) = special(value) {
        return text;
    }
    let exponent = exponent(value, digits);
    if !(-4..6).contains(&exponent) {
        return format!("{value:.*e}", digits - 1);
    }
    format!("{value:.*}", decimals(digits, exponent))
}

/// The shortest text that reads back as `value`: for settings, not for measurements.
pub(crate) fn shortest(value: f64) -> String {
    if let Some(text) = special(value) {
        return text;
    }
    if (-4..15).contains(&exponent(value, 17)) { value.to_string() } else { format!("{value:e}") }
}

/// `value ± uncertainty`, the uncertainty with two significant digits and the value with as
/// many decimals.
pub(crate) fn plus_minus(value: f64, uncertainty: f64) -> String {
    let uncertainty = uncertainty.abs();
    match shared_decimals(&[value, uncertainty], uncertainty) {
        Some(decimals) => format!("{} ± {uncertainty:.decimals$}", fixed(value, decimals)),
        None => format!("{} ± {}", significant(value, 3), significant(uncertainty, 2)),
    }
}

/// `value [low, high]`, all with the decimals that the width of the interval supports.
pub(crate) fn with_range(value: f64, low: f64, high: f64) -> String {
    match shared_decimals(&[value, low, high], (high - low) / 2.0) {
        Some(n) => format!("{} [{}, {}]", fixed(value, n), fixed(low, n), fixed(high, n)),
        None => {
            let text = |x| significant(x, 3);
            format!("{} [{}, {}]", text(value), text(low), text(high))
        }
    }
}

/// `value` with `decimals` decimals and no negative zero.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().all(|c| matches!(c, '0' | '.')) => digits.to_owned(),
        _ => text,
    }
}

/// `count` in groups of three, for pages and not for terminals: `12 345 678`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Puts a true minus sign before the numbers of a text, for pages and figures.
pub(crate) fn typographic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let starts = matches!(before, ' ' | '[' | '(');
        let is_number = chars.peek().is_some_and(|&next| next.is_ascii_digit() || next == '∞');
        out.push(if c == '-' && starts && is_number { '−' } else { c });
        before = c;
    }
    out
}

fn special(value: f64) -> Option<String> {
    let text = match value {
        v if v.is_nan() => "NaN",
        f64::INFINITY => "∞",
        f64::NEG_INFINITY => "-∞",
        0.0 => "0",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Power of ten of `value` once it is rounded to `digits` significant digits.
fn exponent(value: f64, digits: usize) -> i32 {
    let text = format!("{value:.*e}", digits - 1);
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

fn decimals(digits: usize, exponent: i32) -> usize {
    usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0)
}

/// Decimals that give `uncertainty` two significant digits, or `None` where plain decimals do
/// not suit the numbers.
fn shared_decimals(numbers: &[f64], uncertainty: f64) -> Option<usize> {
    let largest = numbers.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let plain = numbers.iter().all(|x| x.is_finite()) && uncertainty.is_finite();
    if !plain || largest >= 1e6 || uncertainty < 1e-6 || largest < 1e-4 {
        return None;
    }
    Some(decimals(2, exponent(uncertainty, 2)))
}

#[cfg(test)]
mod tests;
