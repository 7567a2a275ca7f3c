//! The tables of what companions do.

use forerun_runs::table::{Cell, Column, Table};

use super::findings::{Findings, Test};
use super::tables::{number, range, table};
use crate::multilingual::companions::Pair;

/// Of every companion on every family.
pub(super) fn effects(findings: &Findings<'_>) -> Table {
    let labels = findings.body.labels();
    let mut columns = vec![Column::text("family")];
    columns.extend(labels.iter().map(|label| Column::number(format!("beside {label}"), "")));
    let cell = |family: usize, companion: usize| {
        let Some(found) = &findings.companions else { return Cell::from("none") };
        let is = |pair: &&Pair| (pair.family, pair.companion) == (family, companion);
        found.pairs.iter().find(is).map_or(Cell::from("–"), |pair| {
            let interval = found.interval(pair);
            range(pair.effect, interval.low, interval.high)
        })
    };
    let row = |(family, label): (usize, &&str)| {
        let mut row = vec![Cell::from(*label)];
        row.extend((0..labels.len()).map(|companion| cell(family, companion)));
        row
    };
    let rows = labels.iter().enumerate().map(row).collect();
    table(
        "What companions do, relative to the own share, with 95 % intervals over mixtures, each for itself",
        columns,
        rows,
    )
}

/// Both F-tests.
pub(super) fn tests(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::text("family"),
        Column::number("F, at levels", ""),
        Column::number("p", ""),
        Column::number("p, Holm", ""),
        Column::number("explained by own share", "%"),
        Column::number("with the others", "%"),
        Column::number("p of the straight line, Holm", ""),
    ];
    let (levels, line) = (findings.test("levels"), findings.test("line"));
    let row = |(family, label): (usize, &&str)| {
        let mut row = vec![Cell::from(*label)];
        row.extend(match &levels {
            Some(test) => test_cells(test, family),
            None => vec![Cell::from("none"); 5],
        });
        row.push(line.as_ref().map_or(Cell::from("none"), |line| p_value(line.p_holm[family])));
        row
    };
    let rows = findings.body.labels().iter().enumerate().map(row).collect();
    table(
        "F-tests of the others' shares among the small models, within stacks of equal size, horizon and block",
        columns,
        rows,
    )
}

fn test_cells(test: &Test, family: usize) -> Vec<Cell> {
    let statistic = match test.f[family].is_finite() {
        true => Cell::from(format!("{:.2} ({:.0} df)", test.f[family], test.freedom[family])),
        false => Cell::from("none"),
    };
    vec![
        statistic,
        p_value(test.p[family]),
        p_value(test.p_holm[family]),
        number(100.0 * test.r2_own[family], 2),
        number(100.0 * test.r2_all[family], 2),
    ]
}

fn p_value(p: f64) -> Cell {
    match p {
        p if !p.is_finite() => Cell::from("none"),
        p if p < 1e-3 => Cell::from(format!("{p:.0e}")),
        p => Cell::number(p, 3),
    }
}
