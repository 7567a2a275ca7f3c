//! Two-power laws: Epoch's points, Gadre's runs, Porian's budgets.

use serde_json::Value;

use super::{Check, OBJECTIVE, PARAMETER, STANDARD_ERROR, entries, numbers};
use crate::error::Result;
use crate::fit::{Fit, FitConfig, fit};
use crate::law::{Chinchilla, PowerLaw, predict};
use crate::objective::{Constraint, Objective, OutlierRule};
use crate::observations::Observations;
use crate::parabola::{ParabolaConfig, Window, parabola};
use crate::table::Table;
use crate::units::Flops;

/// The objective that a reference fit's key names.
fn objective(key: &str) -> Option<Objective> {
    if key.starts_with("mean") {
        return None; // A trap that is on record, not a fit.
    }
    if let Some(rest) = key.split("huber_").nth(1) {
        let delta = rest.split('_').next().and_then(|delta| delta.parse().ok());
        return delta.map(|delta| Objective::Huber { delta });
    }
    match key {
        key if key.contains("huber") => Some(Objective::HUBER),
        key if key.contains("lad") => Some(Objective::Lad),
        key if key.contains("nls") => Some(Objective::NlsLog),
        _ => None,
    }
}

/// Compares a fit with a reference's parameters, frontier, objective and standard errors.
fn compare(tally: &mut Check, name: &str, fit: &Fit, json: &Value) {
    for parameter in ["E", "A", "B", "alpha", "beta"] {
        let actual = fit.value(parameter).unwrap_or(f64::NAN);
        tally.number(&format!("{name}.{parameter}"), actual, &json[parameter], PARAMETER);
    }
    let frontier = Chinchilla::frontier(&fit.theta);
    tally.number(&format!("{name}.a_opt"), frontier.exponent, &json["a_opt"], PARAMETER);
    // G is a ratio of weakly identified amplitudes: the frontier moves by less.
    tally.number(&format!("{name}.G"), frontier.g, &json["G"], 5. * PARAMETER);
    for key in ["objective", "rss_half"] {
        tally.number(&format!("{name}.{key}"), fit.objective_value, &json[key], OBJECTIVE);
    }
    let expected = numbers(&json["se_log_params"]);
    for ((parameter, actual), expected) in
        fit.parameters.iter().zip(fit.standard_errors()).zip(expected)
    {
        let name = format!("{name}.se.{}", parameter.name);
        tally.close(&name, actual, expected, STANDARD_ERROR, expected);
    }
}

/// Epoch's 245 points: with and without the highest, each objective, the optimum at a budget.
pub(super) fn chinchilla(table: &Table, json: &Value, tally: &mut Check) -> Result<()> {
    let law = Chinchilla::new();
    let runs = table.observations("loss", &[("n", "N"), ("d", "D")])?;
    let flagged = table.numbers("excluded_epoch")?;
    let n_dropped = flagged.iter().filter(|&&flag| flag == 1.).count();
    let mut huber = None;
    for (key, reference) in entries(json) {
        let Some(objective) = objective(key).filter(|_| reference.get("E").is_some()) else {
            continue;
        };
        let all = key.contains("_all");
        let outliers = if all { OutlierRule::Keep } else { OutlierRule::DropHighest(n_dropped) };
        let fit = fit(&law, &runs, &FitConfig { outliers, ..FitConfig::new(objective) })?;
        compare(tally, key, &fit, reference);
        if !all {
            let rule_agrees = fit.dropped.iter().all(|point| flagged[point.row - 1] == 1.);
            tally
                .require(rule_agrees, || format!("{key}: drops other points than the table flags"));
        }
        if objective == Objective::HUBER && !all {
            huber = Some(fit);
        }
    }
    for (key, reference) in entries(json) {
        let budget = key.strip_prefix("opt_at_").and_then(|budget| budget.parse().ok());
        if let (Some(budget), Some(fit)) = (budget, &huber) {
            let (n, d) = Chinchilla::frontier(&fit.theta).at(Flops(budget));
            tally.number(&format!("{key}.N"), n.0, &reference["N"], PARAMETER);
            tally.number(&format!("{key}.D"), d.0, &reference["D"], PARAMETER);
        }
    }
    Ok(())
}

/// The number after `mark` in a protocol such as `val=c4_val; train on N<1e9, test N>1e9`.
fn after<'a>(protocol: &'a str, mark: &str) -> &'a str {
    let rest = protocol.split(mark).nth(1).unwrap_or_default();
    rest.split([';', ',', ' ']).next().unwrap_or_default()
}

/// Gadre's runs: fitted on small ones, judged on large ones.
pub(super) fn gadre(table: &Table, json: &Value, tally: &mut Check) -> Result<()> {
    let protocol = json["protocol"].as_str().unwrap_or_default();
    let limit: f64 = after(protocol, "N<").parse().unwrap_or(1e9);
    let (val, n) = (table.text("val")?, table.numbers("N")?);
    let is_val = |row: usize| val[row] == after(protocol, "val=");
    let train = table.filter(|row| is_val(row) && n[row] < limit);
    let test = table.filter(|row| is_val(row) && n[row] > limit);
    tally.number("n_train", train.len() as f64, &json["n_train"], PARAMETER);
    let law = Chinchilla::new();
    let runs = train.observations("loss", &[("n", "N"), ("d", "D")])?;
    for (key, reference) in entries(json) {
        let Some(objective) = objective(key).filter(|_| reference.get("E").is_some()) else {
            continue;
        };
        let mut config = FitConfig::new(objective);
        if key.contains("tied") {
            config.constraints = vec![Constraint::Equal("alpha".into(), "beta".into())];
        }
        let fit = fit(&law, &runs, &config)?;
        compare(tally, key, &fit, reference);
        let (names, losses) = (test.text("name")?, test.numbers("loss")?);
        let inputs = (test.numbers("N")?, test.numbers("D")?);
        let mut predicted = vec![];
        for (n, d) in inputs.0.iter().zip(&inputs.1) {
            predicted.push(predict(&law, &fit.theta, &[("n", *n), ("d", *d)])?);
        }
        let held_out = &reference["extrapolation_test"];
        let errors = predicted.iter().zip(&losses).map(|(p, y)| ((p - y) / y).abs());
        let mean = errors.sum::<f64>() / losses.len() as f64;
        tally.number(&format!("{key}.held_out"), mean, &held_out["mean_abs_rel_err"], PARAMETER);
        let order = held_out["names"].as_array().into_iter().flatten();
        for (name, expected) in order.zip(numbers(&held_out["pred"])) {
            let row = names.iter().position(|other| Some(*other) == name.as_str());
            let actual = row.map_or(f64::NAN, |row| predicted[row]);
            tally.close(&format!("{key}.{name}"), actual, expected, PARAMETER, expected);
        }
    }
    Ok(())
}

/// An exponent and a coefficient through `(x, y)`, weighted, in logarithms.
fn line(x: &[f64], y: &[f64], weights: Option<Vec<f64>>) -> Result<Fit> {
    let mut points = Observations::new("y", y.to_vec()).with_input("x", x.to_vec());
    if let Some(weights) = weights {
        points = points.with_weights(weights);
    }
    fit(&PowerLaw::pure("x"), &points, &FitConfig::new(Objective::NlsLog))
}

/// Porian's budgets: exponents through published optima, parabolas of two windows, the parametric fit.
pub(super) fn porian(table: &Table, json: &Value, tally: &mut Check) -> Result<()> {
    let experiments = table.text("experiment")?;
    for (experiment, reference) in entries(json) {
        let runs = table.filter(|row| experiments[row] == experiment);
        published(&runs, experiment, reference, tally)?;
        for (key, window) in [("all", Window::All), ("pm3", Window::Around(3))] {
            let reference = &reference[format!("approach2_parabola_{key}")];
            parabolas(&runs, &format!("{experiment}.{key}"), reference, window, tally)?;
        }
        let points = runs.observations("loss", &[("n", "N"), ("d", "D")])?;
        for (key, reference) in entries(reference).filter(|(key, _)| key.contains("approach3")) {
            let Some(objective) = objective(key) else { continue };
            let fit = fit(&Chinchilla::new(), &points, &FitConfig::new(objective))?;
            compare(tally, &format!("{experiment}.{key}"), &fit, reference);
        }
    }
    Ok(())
}

/// Exponents through the published optima; budgets without one, or without a usable deviation, are left out.
fn published(runs: &Table, name: &str, json: &Value, tally: &mut Check) -> Result<()> {
    let (flops, n_star) = (runs.numbers("flops")?, runs.numbers("n_star")?);
    let spread = runs.numbers("n_star_logstd")?;
    let is_first = |&row: &usize| flops[..row].iter().all(|other| *other != flops[row]);
    let budgets = (0..runs.len()).filter(is_first).filter(|&row| n_star[row] > 0.);
    let budgets: Vec<usize> = budgets.collect();
    let pick =
        |rows: &[usize], values: &[f64]| rows.iter().map(|&row| values[row]).collect::<Vec<_>>();
    let plain = line(&pick(&budgets, &flops), &pick(&budgets, &n_star), None)?;
    let (exponent, coefficient) = (-plain.theta[1], plain.theta[0].exp());
    let published = &json["published_fit"];
    tally.number(&format!("{name}.exponent"), exponent, &published["n_exponent"], OBJECTIVE);
    tally.number(&format!("{name}.coefficient"), coefficient, &published["n_coef"], PARAMETER);
    tally.number(&format!("{name}.ols"), exponent, &json["refit_n_exponent_ols"], OBJECTIVE);
    let usable: Vec<usize> = budgets.into_iter().filter(|&row| spread[row] > 0.).collect();
    let weights = pick(&usable, &spread).iter().map(|spread| spread.powi(-2)).collect();
    let weighted = line(&pick(&usable, &flops), &pick(&usable, &n_star), Some(weights))?;
    let expected = &json["refit_n_exponent_weighted"];
    tally.number(&format!("{name}.weighted"), -weighted.theta[1], expected, PARAMETER);
    Ok(())
}

/// Parabolas of each budget, and the exponent through those whose vertex the points enclose.
fn parabolas(
    runs: &Table,
    name: &str,
    json: &Value,
    window: Window,
    tally: &mut Check,
) -> Result<()> {
    let config = ParabolaConfig { window, divergence: f64::INFINITY, min_r2: 0. };
    let (flops, n, loss) = (runs.numbers("flops")?, runs.numbers("N")?, runs.numbers("loss")?);
    let (mut budgets, mut optima) = (vec![], vec![]);
    for reference in json["budgets"].as_array().into_iter().flatten() {
        let budget = reference["C"].as_f64().unwrap_or(f64::NAN);
        let rows: Vec<usize> =
            (0..runs.len()).filter(|&row| (flops[row] / budget - 1.).abs() < 1e-9).collect();
        let pick = |values: &[f64]| rows.iter().map(|&row| values[row]).collect::<Vec<_>>();
        let optimum = parabola(&pick(&n), &pick(&loss), &config)?;
        let name = format!("{name}.{budget:e}");
        if let Some(vertex) = optimum.parabola() {
            tally.number(&format!("{name}.N_star"), vertex.x, &reference["N_star"], PARAMETER);
            tally.number(
                &format!("{name}.loss_star"),
                vertex.loss,
                &reference["loss_star"],
                PARAMETER,
            );
            tally.number(&format!("{name}.curv"), vertex.curvature, &reference["curv"], PARAMETER);
        }
        let interior = reference["interior"].as_bool();
        tally.require(interior == Some(optimum.vertex().is_some()), || {
            format!("{name}: {optimum:?}, but the reference says interior = {interior:?}")
        });
        if let Some(vertex) = optimum.vertex() {
            budgets.push(budget);
            optima.push(vertex.x);
        }
    }
    let through = line(&budgets, &optima, None)?;
    tally.number(&format!("{name}.a"), -through.theta[1], &json["a"], PARAMETER);
    let se = through.standard_errors()[1];
    tally.number(&format!("{name}.se_a"), se, &json["se_a"], STANDARD_ERROR);
    Ok(())
}
