//! Colours, line styles and marker shapes of the series, and the style sheet of all figures.
//!
//! Series are told apart by colour, dash and marker together. The colours were searched for
//! the largest smallest distance under normal vision and the three colour blindnesses; the
//! tests state what they keep.

/// Colours on a light ground: blue, brick, green, plum, ochre, teal, violet, rose.
pub(crate) const LIGHT: [&str; 8] =
    ["#1a45af", "#ac2f12", "#2da17d", "#713a62", "#b48916", "#1b798f", "#8758d9", "#964d5b"];
/// The same hues on a dark ground.
pub(crate) const DARK: [&str; 8] =
    ["#4886fc", "#e55a44", "#5aefc5", "#b279a6", "#dab34f", "#64c4c8", "#ab9df1", "#df8587"];
/// Dash patterns in units; the empty one is a solid line.
pub(crate) const DASHES: [&str; 5] = ["", "7 3", "2 3", "9 3 2 3", "4 2"];

/// What the other colours are for.
const NAMES: [&str; 8] = ["ground", "ink", "muted", "rule", "faint", "good", "bad", "unsure"];
const LIGHT_GROUND: [&str; 8] =
    ["#ffffff", "#1c2126", "#5b656f", "#c9ced4", "#f1f3f5", "#0a6b3d", "#a32020", "#805500"];
const DARK_GROUND: [&str; 8] =
    ["#14181c", "#e6e9ec", "#9ea8b2", "#414a53", "#20262c", "#6fd69c", "#ff9a90", "#f0c060"];

/// Ends and middle of the colour scale of heat maps, from low to high.
const HEAT: [[f64; 3]; 5] = [
    [36.0, 42.0, 92.0],
    [38.0, 96.0, 132.0],
    [62.0, 150.0, 134.0],
    [160.0, 200.0, 118.0],
    [250.0, 236.0, 158.0],
];

/// Everything a figure needs: colours for both grounds and the classes that use them.
pub(crate) fn style_sheet() -> String {
    format!(
        ":root{{color-scheme:light dark;{}}}\n@media (prefers-color-scheme:dark){{:root{{{}}}}}\n{}{RULES}",
        variables(LIGHT_GROUND, LIGHT),
        variables(DARK_GROUND, DARK),
        (0..8).map(|i| format!(".plot .s{i}{{--c:var(--s{i})}}\n")).collect::<String>(),
    )
}

/// Class of a palette slot.
pub(super) fn class(slot: usize) -> String {
    format!("s{}", slot % LIGHT.len())
}

/// Dash of a palette slot; slots that share a colour differ in it.
pub(super) fn dash(slot: usize) -> &'static str {
    DASHES[(slot + slot / LIGHT.len()) % DASHES.len()]
}

/// Colour at `fraction` (0 to 1) of the heat scale, and whether light text reads on it.
pub(super) fn heat(fraction: f64) -> (String, bool) {
    let at = fraction.clamp(0.0, 1.0) * (HEAT.len() - 1) as f64;
    let low = (at.floor() as usize).min(HEAT.len() - 2);
    let part = at - low as f64;
    let mix = |i: usize| (HEAT[low][i] * (1.0 - part) + HEAT[low + 1][i] * part).round() as u8;
    let [r, g, b] = [mix(0), mix(1), mix(2)];
    let luminance = luminance([r, g, b]);
    // The ground on which white and near-black text have the same contrast.
    (format!("#{r:02x}{g:02x}{b:02x}"), luminance < 0.18)
}

/// Relative luminance of an sRGB colour (WCAG 2.2).
pub(super) fn luminance(rgb: [u8; 3]) -> f64 {
    let linear = |c: u8| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(rgb[0]) + 0.7152 * linear(rgb[1]) + 0.0722 * linear(rgb[2])
}

fn variables(ground: [&str; 8], series: [&str; 8]) -> String {
    let mut out = String::new();
    for (name, colour) in NAMES.iter().zip(ground) {
        out.push_str(&format!("--{name}:{colour};"));
    }
    for (i, colour) in series.iter().enumerate() {
        out.push_str(&format!("--s{i}:{colour};"));
    }
    out
}

const RULES: &str = include_str!("plot.css");

#[cfg(test)]
mod tests;
