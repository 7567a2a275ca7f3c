//! Learning-rate sweeps: optima of the cells, then the law through them.

use serde_json::Value;

use super::{Check, PARAMETER, STANDARD_ERROR, entries, numbers};
use crate::error::Result;
use crate::fit::{FitConfig, fit};
use crate::law::LrHorizon;
use crate::objective::Objective;
use crate::observations::Observations;
use crate::parabola::{ParabolaConfig, Vertex, Window, parabola};
use crate::table::Table;
use crate::units::CountUnit;

/// The window that a key names: `all_points`, `window_pm2`.
fn window(key: &str) -> Option<Window> {
    match key.strip_prefix("window_pm") {
        Some(steps) => steps.parse().ok().map(Window::Around),
        None => (key == "all_points").then_some(Window::All),
    }
}

pub(super) fn synthetic(table: &Table, json: &Value, tally: &mut Check) -> Result<()> {
    let (n, d) = (table.numbers("N")?, table.numbers("D")?);
    let (lr, loss) = (table.numbers("lr")?, table.numbers("loss")?);
    for (key, reference) in entries(json) {
        let Some(window) = window(key) else { continue };
        let config = ParabolaConfig { window, ..ParabolaConfig::default() };
        let mut cells = vec![];
        for expected in reference["optima"].as_array().into_iter().flatten() {
            let cell = [&expected["N"], &expected["D"]].map(|v| v.as_f64().unwrap_or(f64::NAN));
            let rows: Vec<usize> = (0..n.len()).filter(|&i| [n[i], d[i]] == cell).collect();
            let pick = |values: &[f64]| rows.iter().map(|&row| values[row]).collect::<Vec<_>>();
            let optimum = parabola(&pick(&lr), &pick(&loss), &config)?;
            let name = format!("{key}.{:e}.{:e}", cell[0], cell[1]);
            if let Some(vertex) = optimum.parabola() {
                compare(tally, &name, vertex, expected);
            }
            let interior = expected["interior"].as_bool();
            tally.require(interior == Some(optimum.vertex().is_some()), || {
                format!("{name}: {optimum:?}, but the reference says interior = {interior:?}")
            });
            cells.extend(optimum.vertex().map(|vertex| (cell[0], cell[1], vertex.x)));
        }
        laws(&cells, key, reference, tally)?;
    }
    Ok(())
}

fn compare(tally: &mut Check, name: &str, vertex: &Vertex, json: &Value) {
    tally.number(&format!("{name}.lr_star"), vertex.x, &json["lr_star"], PARAMETER);
    tally.number(&format!("{name}.ln_lr_star"), vertex.ln_x, &json["ln_lr_star"], PARAMETER);
    tally.number(&format!("{name}.loss_star"), vertex.loss, &json["loss_star"], PARAMETER);
    tally.number(&format!("{name}.curvature"), vertex.curvature, &json["a"], PARAMETER);
    tally.number(&format!("{name}.r2"), vertex.r2, &json["r2"], PARAMETER);
    tally.number(&format!("{name}.n"), vertex.n_points as f64, &json["n"], PARAMETER);
}

/// The joint law, and one law for each size.
fn laws(cells: &[(f64, f64, f64)], key: &str, json: &Value, tally: &mut Check) -> Result<()> {
    let config = FitConfig::new(Objective::NlsLog);
    let observations = |cells: &[(f64, f64, f64)]| {
        Observations::new("lr", cells.iter().map(|cell| cell.2).collect())
            .with_input("n", cells.iter().map(|cell| cell.0).collect())
            .with_input("d", cells.iter().map(|cell| cell.1).collect())
    };
    let joint =
        fit(&LrHorizon::of_size_and_tokens(CountUnit::Billions), &observations(cells), &config)?;
    let expected = &json["joint_NinB_DinB"];
    for name in ["C", "alpha", "beta"] {
        let actual = joint.value(name).unwrap_or(f64::NAN);
        tally.number(&format!("{key}.joint.{name}"), actual, &expected[name], PARAMETER);
    }
    for (actual, expected) in joint.standard_errors().iter().zip(numbers(&expected["se"])) {
        tally.close(&format!("{key}.joint.se"), *actual, expected, STANDARD_ERROR, expected);
    }
    for (size, expected) in entries(&json["per_size_DinB"]) {
        let size: f64 = size.parse().unwrap_or(f64::NAN);
        let own: Vec<_> = cells.iter().copied().filter(|cell| cell.0 == size).collect();
        let law = fit(&LrHorizon::of_tokens(CountUnit::Billions), &observations(&own), &config)?;
        let name = format!("{key}.{size:e}");
        tally.number(&format!("{name}.B"), law.theta[0].exp(), &expected["B"], PARAMETER);
        tally.number(&format!("{name}.beta"), law.theta[1], &expected["beta"], PARAMETER);
        let se = law.standard_errors()[1];
        tally.number(&format!("{name}.se_beta"), se, &expected["se_beta"], STANDARD_ERROR);
    }
    Ok(())
}
