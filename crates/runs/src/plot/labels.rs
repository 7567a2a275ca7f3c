//! How much room a text takes, and how to make it fit.

use crate::text;

/// Size of ordinary labels, as in `plot.css`.
pub(super) const FONT: f64 = 13.0;
/// Size of tick labels and notes, as in `plot.css`.
pub(super) const SMALL: f64 = 12.0;
/// Size of titles, as in `plot.css`.
pub(super) const TITLE: f64 = 16.0;

/// Width of `label` in units at `size`: an upper estimate for the common sans-serif fonts, of which
/// DejaVu Sans is the widest.
pub(super) fn width(label: &str, size: f64) -> f64 {
    text::one_line(label).chars().map(advance).sum::<f64>() * size * 1.13
}

/// Breaks `label` between words into at most `most` lines of `room` units.
pub(super) fn wrap(label: &str, size: f64, room: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text::one_line(label).split(' ').filter(|word| !word.is_empty()) {
        let is_full = lines.len() >= most.max(1);
        match lines.last_mut() {
            Some(line) if is_full || width(&format!("{line} {word}"), size) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| shorten(line, size, room)).collect()
}

/// `label`, cut with an ellipsis where it is wider than `room`.
pub(super) fn shorten(label: &str, size: f64, room: f64) -> String {
    let label = text::one_line(label);
    if width(&label, size) <= room {
        return label;
    }
    let mut cut = String::new();
    for c in label.chars() {
        if width(&format!("{cut}{c}…"), size) > room {
            break;
        }
        cut.push(c);
    }
    format!("{}…", cut.trim_end())
}

/// Advance of one character in ems.
fn advance(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | 'I' | '\u{202f}' => 0.28,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | ' ' | '-' | '"' | '`' => 0.37,
        'm' | 'w' | 'M' | 'W' | '%' | '@' | '—' | '…' => 0.92,
        '0'..='9' | '+' | '−' | '=' | '<' | '>' | '±' | '×' | '–' => 0.60,
        'A'..='Z' | '&' => 0.70,
        'a'..='z' | '_' | '$' | '?' | '*' | '#' => 0.56,
        '\u{2070}'..='\u{207f}' | '²' | '³' | '¹' => 0.40,
        _ if u32::from(c) < 0x1100 => 0.66,
        _ => 1.05,
    }
}

#[cfg(test)]
mod tests;
