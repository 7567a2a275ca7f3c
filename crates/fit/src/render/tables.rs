//! The answer as tables, for a terminal and for a page.

use forerun_runs::table::{Cell, Column, Table};
use forerun_scaling::compare::Score;

use crate::number::short;
use crate::output::{ApproachFound, Estimate, FitOutput, MixtureFound, Named};

pub(super) fn interval(value: &Estimate) -> String {
    let end = |end: f64| if end.is_finite() { short(end) } else { "unbounded".to_owned() };
    value
        .ci95
        .map_or_else(|| "-".to_owned(), |[low, high]| format!("{} .. {}", end(low), end(high)))
}

fn cells(name: &str, value: &Estimate) -> Vec<Cell> {
    let se = value.se.filter(|se| se.is_finite()).map_or_else(|| "-".to_owned(), short);
    [name.to_owned(), short(value.estimate), se, interval(value)].map(Cell::from).to_vec()
}

/// Names, values, standard errors, intervals.
fn estimates(caption: &str, values: &Named<Estimate>) -> Table {
    Table {
        caption: caption.to_owned(),
        columns: vec![
            Column::text(""),
            Column::number("estimate", ""),
            Column::number("se", ""),
            Column::number("95 % interval", ""),
        ],
        rows: values.0.iter().map(|(name, value)| cells(name, value)).collect(),
    }
}

fn predictions(output: &FitOutput) -> Table {
    let mut named = Named::default();
    for prediction in &output.predictions {
        named.push(prediction.name(), prediction.value.clone());
    }
    estimates("Predictions", &named)
}

fn independence(output: &FitOutput) -> Table {
    let row = |(family, test): &(String, crate::output::IndependenceFound)| {
        let strongest = test.strongest.as_ref();
        vec![
            Cell::from(family.clone()),
            Cell::from(short(test.f)),
            Cell::from(format!("{}, {}", test.df[0], test.df[1])),
            Cell::from(short(test.p)),
            Cell::from(short(test.p_holm)),
            Cell::from(
                strongest.map_or_else(String::new, |(name, by)| format!("{name} {}", short(*by))),
            ),
        ]
    };
    Table {
        caption: "Does a loss depend on its own share alone? F-test, and the strongest other share"
            .into(),
        columns: vec![
            Column::text("family"),
            Column::number("F", ""),
            Column::number("df", ""),
            Column::number("p", ""),
            Column::number("p (Holm)", ""),
            Column::text("strongest"),
        ],
        rows: output.independence.0.iter().map(row).collect(),
    }
}

/// The three approaches side by side.
fn approaches(output: &FitOutput) -> Table {
    let budgets: Vec<&str> = output
        .approaches
        .last()
        .map(|law| law.n_opt.0.iter().map(|(budget, _)| budget.as_str()).collect())
        .unwrap_or_default();
    // More would not fit beside each other.
    let budgets = match budgets[..] {
        [first, .., last] => vec![first, last],
        _ => budgets,
    };
    let row = |found: &ApproachFound| {
        let name = match (found.approach, found.n_points) {
            (approach, _) if found.a.is_none() => format!("{approach}: -"),
            (1, n) => format!("1: best runs ({n})"),
            (2, n) => format!("2: parabolas ({n})"),
            (_, n) => format!("3: law ({n} runs)"),
        };
        let a =
            |text: &dyn Fn(&Estimate) -> String| found.a.as_ref().map_or_else(String::new, text);
        let range = |a: &Estimate| {
            a.ci95.map_or_else(String::new, |[low, high]| {
                format!("{} .. {}", exponent(low), exponent(high))
            })
        };
        let sizes = budgets.iter().map(|budget| {
            Cell::from(found.n_opt.get(budget).copied().map_or_else(String::new, short))
        });
        let a = [name, a(&|a| exponent(a.estimate)), a(&range)].map(Cell::from);
        a.into_iter().chain(sizes).collect()
    };
    let sizes = budgets.iter().map(|budget| Column::number(format!("N* at {budget}"), ""));
    let columns =
        [Column::text("approach"), Column::number("a", ""), Column::number("95 % interval", "")];
    Table {
        caption: "The best size for a budget, N* = k C^a, by three approaches".into(),
        columns: columns.into_iter().chain(sizes).collect(),
        rows: output.approaches.iter().map(row).collect(),
    }
}

/// Three decimals; more would be noise.
fn exponent(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "unbounded".to_owned() }
}

/// Laws on the same runs.
fn comparison(output: &FitOutput) -> Table {
    let comparison = &output.comparison;
    let number = |value: Option<f64>| {
        Cell::from(value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}")))
    };
    let percent = |value: Option<f64>| {
        Cell::from(value.map_or_else(|| "-".to_owned(), |value| format!("{:.2} %", 100. * value)))
    };
    let row = |score: &Score| {
        vec![
            Cell::from(score.name.clone()),
            Cell::from(if score.n_points == 0 { "-".into() } else { score.n_free.to_string() }),
            number(score.aic),
            number(score.bic),
            percent(score.fold_error),
            percent(score.held_out_error),
        ]
    };
    let held = comparison.held_out.as_ref().map_or_else(
        || "too few runs to hold any out".to_owned(),
        |held| format!("held out: {} above {}", held.input, short(held.above)),
    );
    Table {
        caption: format!(
            "Which law? Smaller is better in every column; mean errors over {} folds; {held}",
            comparison.n_folds
        ),
        columns: vec![
            Column::text("law"),
            Column::number("free", ""),
            Column::number("AIC", ""),
            Column::number("BIC", ""),
            Column::number("folds", ""),
            Column::number("held out", ""),
        ],
        rows: comparison.laws.iter().map(row).collect(),
    }
}

/// The best mixture beside other samplers: shares, then the sum and what is lost.
fn samplers(mixture: &MixtureFound) -> Table {
    let names = mixture.others.0.iter().map(|(name, _)| name.as_str());
    let names = names.map(|name| if name == "temperature" { "temp. 0.3" } else { name });
    let columns = ["best"].into_iter().chain(names).map(|name| Column::number(name, ""));
    let line = |name: &str, best: String, of: &dyn Fn(&str) -> String| {
        let others = mixture.others.0.iter().map(|(sampler, _)| of(sampler));
        [name.to_owned(), best].into_iter().chain(others).map(Cell::from).collect()
    };
    let share = |sampler: &str, family: &str| {
        mixture.other_shares.get(sampler).and_then(|shares| shares.get(family)).copied()
    };
    let sum = |sampler: &str| mixture.others.get(sampler).copied().unwrap_or(f64::NAN);
    let mut rows: Vec<Vec<Cell>> = mixture
        .shares
        .0
        .iter()
        .map(|(family, best)| {
            let other = |sampler: &str| share(sampler, family).map_or_else(String::new, rounded);
            line(family, rounded(best.estimate), &other)
        })
        .collect();
    rows.push(line("sum", short(mixture.value), &|sampler| short(sum(sampler))));
    let more = |sampler: &str| format!("{:.2} %", 100. * (sum(sampler) / mixture.value - 1.));
    rows.push(line("lost", String::new(), &more));
    Table {
        caption: "Beside samplers that know no law; lost: how far their sum is above the best"
            .into(),
        columns: std::iter::once(Column::text("")).chain(columns).collect(),
        rows,
    }
}

fn rounded(share: f64) -> String {
    format!("{share:.4}")
}

/// All tables that have rows.
pub(super) fn all(output: &FitOutput) -> Vec<Table> {
    let mut tables = vec![estimates("Parameters", &output.params)];
    tables.push(estimates("What follows", &output.derived));
    tables.push(approaches(output));
    for mixture in &output.mixtures {
        let caption =
            format!("Best mixture for the {}: {}", mixture.objective, short(mixture.value));
        tables.push(estimates(&caption, &mixture.shares));
        tables.push(samplers(mixture));
    }
    tables.push(independence(output));
    tables.push(predictions(output));
    tables.push(comparison(output));
    tables.retain(|table| !table.rows.is_empty());
    tables
}
