//! The same trainings read in other ways: how much hangs on how many points a parabola goes through, and on valleys that
//! are steeper on one side.

use forerun_runs::table::{Cell, Column, Table};
use forerun_scaling::parabola::{ParabolaConfig, Window};
use forerun_scaling::sweep::Slant;

use super::findings::Findings;
use super::tables::rate_cell;
use super::words;
use crate::horizon::HELD_OUT;
use crate::horizon::spread::Spread;
use crate::horizon::valley::{Reader, Valleys};
use crate::plan::counted;

/// One way to read the optima, and what it makes of the law of the fitted horizons.
pub(super) struct Reading {
    name: String,
    /// Points that the optima of the fitted horizons were read off: fewest and most.
    points: Option<(usize, usize)>,
    /// Fitted horizons that show an optimum.
    n_optima: usize,
    pub(super) spread: Option<Spread>,
    /// The best learning rate of the held-out horizon.
    best: Option<f64>,
    slant: Option<Slant>,
}

/// As configured, through all points as the paper has it, close around the lowest, and without the slant.
pub(super) fn readings(findings: &Findings<'_>) -> Vec<Reading> {
    let config = findings.body.sweep.parabola;
    let mut windows = vec![config.window];
    for window in [Window::All, Window::Around(2)] {
        if !windows.contains(&window) {
            windows.push(window);
        }
    }
    let parabola = |window| {
        let name = format!("parabolas through {}", in_words(window));
        let reader = Reader::Parabolas(ParabolaConfig { window, ..config });
        reading(findings, name, reader)
    };
    let mut found: Vec<Reading> = windows.into_iter().filter_map(parabola).collect();
    if let Some(first) = found.first_mut() {
        first.name.push_str(" (as configured)");
    }
    let all = ParabolaConfig { window: Window::All, ..config };
    let name = "parabolas less a slant that all horizons share".to_owned();
    found.extend(reading(findings, name, Reader::Upright(all)));
    found
}

fn reading(findings: &Findings<'_>, name: String, reader: Reader) -> Option<Reading> {
    let arm = findings.subject()?;
    let valleys = findings.valleys.read_by(reader);
    let fitted = &findings.body.horizons.fitted;
    let spread = Spread::of_seeds(&valleys, arm, fitted);
    let (counts, best, slant) = match reader {
        Reader::Parabolas(_) => parabolas(&valleys, fitted),
        Reader::Upright(_) => upright(findings, &valleys, fitted),
    };
    let points = counts.iter().min().zip(counts.iter().max()).map(|ends| (*ends.0, *ends.1));
    Some(Reading { name, points, n_optima: counts.len(), spread, best, slant })
}

/// Points of each fitted horizon that shows an optimum, the best rate of the held-out one, the slant.
type Read = (Vec<usize>, Option<f64>, Option<Slant>);

fn parabolas(valleys: &Valleys<'_>, fitted: &[f64]) -> Read {
    let Some(arm) = valleys.body.subject() else { return (Vec::new(), None, None) };
    let vertex = |part: f64| valleys.optimum(arm, part, &valleys.seeds).vertex().copied();
    let counts = fitted.iter().filter_map(|&part| Some(vertex(part)?.n_points)).collect();
    (counts, vertex(HELD_OUT).map(|vertex| vertex.x), None)
}

fn upright(findings: &Findings<'_>, valleys: &Valleys<'_>, fitted: &[f64]) -> Read {
    let Some(arm) = valleys.body.subject() else { return (Vec::new(), None, None) };
    let found = valleys.upright(arm, fitted, &valleys.seeds);
    let counts = found.optima.iter().map(|optimum| optimum.2).collect();
    let whole = valleys.upright(arm, &findings.parts(arm), &valleys.seeds);
    let held_out = findings.n_tokens(HELD_OUT);
    let best = whole.optima.iter().find(|optimum| optimum.0 == held_out).map(|optimum| optimum.1);
    (counts, best, found.slant)
}

fn in_words(window: Window) -> String {
    match window {
        Window::All => "all points that have not diverged".to_owned(),
        Window::Around(steps) => {
            format!("the lowest point and {} on either side", counted(steps as u64, "rate"))
        }
        Window::Within(nats) => format!("the points within {nats} nats of the lowest"),
    }
}

/// From the smallest to the largest exponent of all readings; none if fewer than two show one.
pub(super) fn range(readings: &[Reading]) -> Option<(f64, f64)> {
    let exponents: Vec<f64> = readings
        .iter()
        .filter_map(|reading| Some(reading.spread.as_ref()?.exponent().value))
        .collect();
    let low = exponents.iter().copied().fold(f64::INFINITY, f64::min);
    let high = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (exponents.len() > 1).then_some((low, high))
}

pub(super) fn table(findings: &Findings<'_>, readings: &[Reading]) -> Table {
    let columns = vec![
        Column::text("best rates by"),
        Column::text("points a horizon"),
        Column::number("exponent of the horizon, β", ""),
        Column::number("predicted", ""),
        Column::number("best", ""),
        Column::number("error", "octaves"),
        Column::text("remark"),
    ];
    let caption = format!(
        "The law of the fitted horizons when optima are read in other ways; predicted and best are those of {} tokens. β is \
         the mean over single seeds with Student's 95 % interval. If too large a rate cost more than too small a one, \
         which is a slant, the vertex of a parabola would lie beside the lowest point, the more so the wider its window",
        words::tokens_in_words(findings.n_tokens(HELD_OUT))
    );
    let rows = readings.iter().map(|reading| row(findings, reading)).collect();
    Table { caption, columns, rows }
}

fn row(findings: &Findings<'_>, reading: &Reading) -> Vec<Cell> {
    let predicted =
        reading.spread.as_ref().map(|spread| spread.law.at(findings.n_tokens(HELD_OUT)));
    let rate = |lr: Option<f64>| lr.map_or(Cell::Empty, |lr| Cell::number(lr, 3));
    let error = predicted.zip(reading.best).map(|(predicted, best)| (predicted / best).log2());
    let mut remarks = Vec::new();
    let n_fitted = findings.body.horizons.fitted.len();
    if reading.n_optima < n_fitted {
        remarks.push(format!("{} of {n_fitted} horizons show an optimum", reading.n_optima));
    }
    if let Some(Slant { coefficient, se, .. }) = reading.slant {
        remarks.push(format!("slant {coefficient:.4} ± {se:.4} nats/(ln lr)³"));
    }
    vec![
        Cell::from(reading.name.as_str()),
        match reading.points {
            Some((low, high)) if low == high => Cell::from(low.to_string()),
            Some((low, high)) => Cell::from(format!("{low} to {high}")),
            None => Cell::Empty,
        },
        reading.spread.as_ref().map_or(Cell::Empty, |spread| rate_cell(spread.exponent())),
        rate(predicted),
        rate(reading.best),
        error.map_or(Cell::Empty, |octaves| Cell::number(octaves, 2)),
        Cell::from(remarks.join("; ")),
    ]
}
