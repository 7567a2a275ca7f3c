//! Family laws: fits, optimal shares, and the test of independence.

use serde_json::Value;

use super::{Check, OBJECTIVE, PARAMETER, STANDARD_ERROR, entries, numbers};
use crate::error::Result;
use crate::fit::{Fit, FitConfig, fit};
use crate::independence::{Independence, independence};
use crate::law::Family;
use crate::mixture::{Component, Weighing, optimise};
use crate::objective::Objective;
use crate::observations::Observations;
use crate::table::Table;

/// How far an optimal share may lie from the reference's.
const SHARE: f64 = 0.002;

/// Smallest own share of the rows on which `ln p` is used.
const MIN_SHARE: f64 = 0.005;

/// The columns that hold shares, `p_<family>`.
fn shares(table: &Table) -> Vec<&str> {
    table.names().iter().map(String::as_str).filter(|name| name.starts_with("p_")).collect()
}

/// Observations of `loss` with the share `p` and those of others under their columns' names.
fn with_shares(table: &Table, loss: &str, own: &str, others: &[&str]) -> Result<Observations> {
    let mut inputs = vec![("p", own)];
    inputs.extend(others.iter().map(|other| (*other, *other)));
    table.observations(loss, &inputs)
}

fn compare_test(tally: &mut Check, name: &str, test: &Independence, json: &Value) {
    for (key, actual) in [("F", test.f), ("F_other", test.f), ("gamma_hat", test.gamma)] {
        tally.number(&format!("{name}.{key}"), actual, &json[key], PARAMETER);
    }
    for key in ["p", "p_other"] {
        let (actual, expected) = (test.p_value, json[key].as_f64());
        if let Some(expected) = expected {
            // Tail probabilities of 1e-80 are compared in their logarithm.
            let error = (actual.ln() - expected.ln()).abs();
            tally.close(
                &format!("{name}.{key}"),
                error,
                0.,
                PARAMETER,
                expected.ln().abs().max(1.),
            );
        }
    }
    let rejects = |p: f64| p < 0.01;
    for key in ["p", "p_other"] {
        if let Some(expected) = json[key].as_f64() {
            tally.require(rejects(test.p_value) == rejects(expected), || {
                format!("{name}: p {:e}", test.p_value)
            });
        }
    }
}

/// RegMix: `gamma`, the test, and the offset form of every domain.
pub(super) fn regmix(table: &Table, json: &Value, tally: &mut Check) -> Result<()> {
    let columns = shares(table);
    for (domain, reference) in entries(json) {
        let (own, loss) = (format!("p_{domain}"), format!("loss_{domain}"));
        let p = table.numbers(&own)?;
        let large = table.filter(|row| p[row] >= MIN_SHARE);
        let others: Vec<&str> = columns.iter().copied().filter(|name| *name != own).collect();
        let test = independence(domain, &with_shares(&large, &loss, &own, &others)?, &others)?;
        tally.number(&format!("{domain}.n"), large.len() as f64, &reference["n"], PARAMETER);
        tally.number(&format!("{domain}.gamma"), test.gamma, &reference["gamma"], PARAMETER);
        tally.number(&format!("{domain}.r2"), test.r2_own, &reference["r2_own"], PARAMETER);
        let r2 = &reference["r2_with_other_shares"];
        tally.number(&format!("{domain}.r2_with_others"), test.r2_all, r2, PARAMETER);
        compare_test(tally, domain, &test, reference);
        let law = Family::at_one_scale("").with_offset();
        let all = with_shares(table, &loss, &own, &[])?;
        let fit = fit(&law, &all, &FitConfig::new(Objective::NlsLog))?;
        let expected = &reference["offset_form"];
        tally.number(&format!("{domain}.lnc"), fit.theta[0], &expected["lnc"], PARAMETER);
        tally.number(
            &format!("{domain}.offset_gamma"),
            fit.theta[1],
            &expected["gamma"],
            PARAMETER,
        );
        // The cost is flat in the offset: its second derivative leaves the sixth digit of the cost to the third of it.
        tally.number(
            &format!("{domain}.eps"),
            fit.theta[2].exp(),
            &expected["eps"],
            5. * PARAMETER,
        );
        tally.number(&format!("{domain}.cost"), fit.objective_value, &expected["cost"], OBJECTIVE);
    }
    Ok(())
}

/// One family's rows.
fn family(table: &Table, name: &str) -> Result<Table> {
    let families = table.text("family")?;
    Ok(table.filter(|row| families[row] == name))
}

/// The family law under each objective, optimal shares, and the test in the cells that the reference names.
pub(super) fn multilingual(table: &Table, json: &Value, tally: &mut Check) -> Result<()> {
    for (key, reference) in entries(&json["fits"]).filter(|(key, _)| !key.ends_with("_optimal_p")) {
        let objective = match key.strip_prefix("huber_").and_then(|delta| delta.parse().ok()) {
            Some(delta) => Objective::Huber { delta },
            None => Objective::NlsLog,
        };
        // The order of the families is that of the columns of shares.
        let mut fits = vec![];
        for column in shares(table) {
            let name = column.trim_start_matches("p_");
            let rows = family(table, name)?;
            let runs = rows.observations("loss", &[("n", "N"), ("d", "D"), ("p", "p")])?;
            let law = Family::new("");
            let fit = fit(&law, &runs, &FitConfig::new(objective))?;
            compare_family(tally, &format!("{key}.{name}"), &fit, &reference[name]);
            fits.push(fit);
        }
        let optimal = &json["fits"][format!("{key}_optimal_p")];
        for (target, expected) in entries(optimal) {
            let mixture = optimise(&components(&fits, target)?)?;
            for (actual, expected) in mixture.shares.iter().zip(numbers(expected)) {
                tally.close(&format!("{key}.{target}"), *actual, expected, SHARE, 1.);
            }
        }
    }
    for (key, reference) in entries(json).filter(|(key, _)| key.starts_with("independence")) {
        let (n, d) = (table.numbers("N")?, table.numbers("D")?);
        let at = |mark: &str| -> f64 {
            let rest = key.split(mark).nth(1).unwrap_or_default();
            rest.split([',', ')']).next().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN)
        };
        let cell = table.filter(|row| n[row] == at("N=") && d[row] == at("D="));
        tests(&cell, reference, key, tally)?;
    }
    Ok(())
}

/// The sum that a key names: `sum_loss N=8.5e+07 D=5e10`, or the normalised one.
fn components(fits: &[Fit], target: &str) -> Result<Vec<Component>> {
    let at =
        |mark: &str| -> Option<f64> { target.split(mark).nth(1)?.split(' ').next()?.parse().ok() };
    let (weighing, scale) = match (at("N="), at("D=")) {
        (Some(n), Some(d)) => (Weighing::Sum, (n, d)),
        _ => (Weighing::Normalised, (1., 1.)),
    };
    let law = Family::new("");
    fits.iter().map(|fit| Component::fitted("", &law, &fit.theta, weighing, 1., scale)).collect()
}

fn compare_family(tally: &mut Check, name: &str, fit: &Fit, json: &Value) {
    for parameter in ["E", "A", "B", "alpha", "beta", "gamma"] {
        let actual = fit.value(parameter).unwrap_or(f64::NAN);
        tally.number(&format!("{name}.{parameter}"), actual, &json[parameter], PARAMETER);
    }
    tally.number(&format!("{name}.objective"), fit.objective_value, &json["objective"], OBJECTIVE);
    let expected = numbers(&json["se_log_params(a,b,e,alpha,beta,gamma)"]);
    for (actual, expected) in fit.standard_errors().iter().zip(expected) {
        tally.close(&format!("{name}.se"), *actual, expected, STANDARD_ERROR, expected);
    }
}

/// The test of every family at one scale.
pub(super) fn transfer(table: &Table, json: &Value, tally: &mut Check) -> Result<()> {
    tests(table, &json["result"], "result", tally)
}

fn tests(table: &Table, json: &Value, key: &str, tally: &mut Check) -> Result<()> {
    for (name, reference) in entries(json) {
        let rows = family(table, name)?;
        let own = format!("p_{name}");
        let others: Vec<&str> = shares(table).into_iter().filter(|other| *other != own).collect();
        let test = independence(name, &with_shares(&rows, "loss", "p", &others)?, &others)?;
        compare_test(tally, &format!("{key}.{name}"), &test, reference);
    }
    Ok(())
}
