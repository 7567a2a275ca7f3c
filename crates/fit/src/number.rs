//! Numbers as people type them: `7B`, `1.5T`, `3e-4`.

use anyhow::{Result, bail};

/// Parses a number with an optional suffix K, M, B (or G), T.
///
/// # Errors
/// Names the text that is no such number.
pub fn parse(text: &str) -> Result<f64> {
    let text = text.trim();
    let suffixes = [('K', 1e3), ('k', 1e3), ('M', 1e6), ('B', 1e9), ('G', 1e9), ('T', 1e12)];
    let (digits, factor) = suffixes
        .into_iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)))
        .unwrap_or((text, 1.));
    match digits.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value * factor),
        _ => bail!("`{text}` is no number (write 7e9, or 7B)"),
    }
}

/// Parses `n=7B,d=1T`.
///
/// # Errors
/// Names the part that is no pair of a name and a number.
pub fn pairs(text: &str) -> Result<Vec<(String, f64)>> {
    names(text)?.into_iter().map(|(name, value)| Ok((name, parse(&value)?))).collect()
}

/// As [`parse`], of a number above 0.
///
/// # Errors
/// As [`parse`], and for a number that is not positive.
pub fn positive(text: &str) -> Result<f64> {
    match parse(text)? {
        value if value > 0. => Ok(value),
        _ => bail!("must be positive, got {}", text.trim()),
    }
}

/// As [`pairs`], of numbers above 0 (shares, named `p` or `p_…`, may be 0).
///
/// # Errors
/// As [`pairs`], and names the number that is not positive.
pub fn positive_pairs(text: &str) -> Result<Vec<(String, f64)>> {
    let found = pairs(text)?;
    let is_share = |name: &str| name == "p" || name.starts_with("p_");
    let is_bad = |(name, value): &&(String, f64)| !(*value > 0. || *value == 0. && is_share(name));
    match found.iter().find(is_bad) {
        Some((name, value)) => bail!("`{name}` must be positive, got {value}"),
        None => Ok(found),
    }
}

/// Parses `n=params,loss=val_loss`.
///
/// # Errors
/// Names the part that is no pair.
pub fn names(text: &str) -> Result<Vec<(String, String)>> {
    let pair = |part: &str| match part.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => bail!("`{part}` must be NAME=VALUE"),
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// Six significant digits at most, short: for terminals.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0. || (1e-3..1e5).contains(&size) {
        let decimals = (4 - size.max(1e-3).log10().floor() as i32).clamp(0, 7) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    } else {
        format!("{value:.3e}")
    }
}

/// Two significant digits with a suffix: `100M`, `3.2B`; for labels of counts.
pub(crate) fn counted(value: f64) -> String {
    let suffixes = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")];
    let (unit, suffix) =
        suffixes.into_iter().find(|(unit, _)| value >= 0.995 * unit).unwrap_or((1., ""));
    let scaled = value / unit;
    if scaled >= 9.95 {
        format!("{scaled:.0}{suffix}")
    } else {
        format!("{scaled:.1}{suffix}").replace(".0", "")
    }
}

#[cfg(test)]
mod tests;
