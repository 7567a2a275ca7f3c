//! The search: every start to convergence, ends grouped into distinct optima, and what the best of them lacks.

use crate::error::{Error, Result};
use crate::fit::covariance::{Errors, errors};
use crate::fit::{Fit, Optimum, Prepared};
use crate::law::{Law, Parameter};
use crate::objective::{Dropped, Objective};
use crate::solve::{Stop, Workspace, explore, minimise, value};

/// Objectives this close, relative, are one.
const SAME_OBJECTIVE: f64 = 1e-7;

/// Parameters this close, in the solver's scale and relative to 1, are one.
const SAME_THETA: f64 = 1e-2;

/// Beyond this condition number, of the information scaled to a unit diagonal, some direction is as good as open.
const FLAT: f64 = 1e8;

/// Fits what was prepared.
pub(crate) fn fit_prepared(
    law: &dyn Law,
    prepared: &Prepared,
    objective: Objective,
    dropped: Vec<Dropped>,
    further: &[Vec<f64>],
) -> Result<Fit> {
    let problem = prepared.problem(law, objective);
    let mut starts = law.starts(&prepared.design, &prepared.log_target, &prepared.weights);
    starts.extend(further.iter().cloned());
    let mut ws = Workspace::default();
    let mut optima: Vec<Optimum> = vec![];
    let mut n_failed = 0;
    for start in &starts {
        ws.free = prepared.map.reduce(start);
        let outcome = minimise(&problem, &mut ws, Stop::COLD);
        if !outcome.converged || !outcome.objective.is_finite() {
            n_failed += 1;
            continue;
        }
        prepared.map.expand(&ws.free, &mut ws.theta);
        record(&mut optima, outcome.objective, &ws.theta);
    }
    optima.sort_by(|left, right| left.objective.total_cmp(&right.objective));
    if let (Objective::Lad, Some(best)) = (objective, optima.first()) {
        ws.free = prepared.map.reduce(&best.theta);
        let found = explore(&problem, &mut ws, best.objective);
        if found < best.objective {
            prepared.map.expand(&ws.free, &mut ws.theta);
            record(&mut optima, found, &ws.theta);
            optima.sort_by(|left, right| left.objective.total_cmp(&right.objective));
        }
    }
    let Some(best) = optima.first().cloned() else {
        let reason = format!("none of {} starts converged", starts.len());
        return Err(Error::not_identified(law.name(), reason));
    };
    ws.free = prepared.map.reduce(&best.theta);
    let objective_value = value(&problem, &mut ws);
    let residuals = ws.residuals.clone();
    let shared_error = prepared.shared_error.as_deref();
    let Errors { covariance, shared_shift, condition } =
        errors(&problem, &mut ws, objective_value, shared_error);
    let parameters = law.parameters();
    let at_bounds = at_bounds(prepared, &parameters, &best.theta);
    let mut fit = Fit {
        law: law.name(),
        objective,
        parameters,
        theta: best.theta,
        objective_value,
        n_points: prepared.rows.len(),
        n_free: prepared.map.n_free(),
        dropped,
        n_starts: starts.len(),
        n_failed,
        optima,
        residuals,
        rows: prepared.rows.clone(),
        covariance,
        shared_shift,
        condition,
        at_bounds,
        warnings: vec![],
    };
    fit.warnings = warnings(&fit);
    Ok(fit)
}

/// Adds an end to the optima, or counts it where it is one that is known.
fn record(optima: &mut Vec<Optimum>, objective: f64, theta: &[f64]) {
    let is_same = |known: &Optimum| {
        let scale = known.objective.abs().max(objective.abs()).max(f64::MIN_POSITIVE);
        let distance = known.theta.iter().zip(theta).map(|(a, b)| (a - b).abs() / a.abs().max(1.));
        // Noiseless data leave objectives that are rounding alone.
        let is_close =
            (known.objective - objective).abs() <= SAME_OBJECTIVE * scale || scale < 1e-8;
        is_close && distance.fold(0., f64::max) < SAME_THETA
    };
    match optima.iter_mut().find(|known| is_same(known)) {
        Some(known) => {
            known.starts += 1;
            if objective < known.objective {
                known.objective = objective;
                known.theta = theta.to_vec();
            }
        }
        None => optima.push(Optimum { objective, theta: theta.to_vec(), starts: 1 }),
    }
}

fn at_bounds(prepared: &Prepared, parameters: &[Parameter], theta: &[f64]) -> Vec<String> {
    let free = prepared.map.reduce(theta);
    let at = |(i, parameter): (usize, &Parameter)| {
        let crate::solve::Slot::Free(k) = prepared.map.slots[i] else { return None };
        prepared.map.at_bound(k, free[k]).then(|| parameter.name.clone())
    };
    parameters.iter().enumerate().filter_map(at).collect()
}

/// What a reader must know.
fn warnings(fit: &Fit) -> Vec<String> {
    let mut warnings = vec![];
    for name in &fit.at_bounds {
        let value = fit.value(name).unwrap_or(f64::NAN);
        warnings.push(format!("`{name}` ended on its bound, {value:.3e}: the data ask for no such term, or cannot tell"));
    }
    if fit.condition > FLAT || fit.covariance.is_none() {
        warnings.push(format!(
            "the optimum lies on a flat ridge (condition number {:.1e}): single parameters mean little, predictions \
             inside the data may still hold",
            fit.condition
        ));
    }
    let near = |optimum: &&Optimum| optimum.objective <= 1.01 * fit.objective_value;
    let rivals = fit.optima.iter().skip(1).filter(near).count();
    if rivals > 0 {
        warnings.push(format!("{rivals} other optima have an objective within 1 % of the best"));
    }
    if 2 * fit.n_failed > fit.n_starts {
        warnings.push(format!("{} of {} starts did not converge", fit.n_failed, fit.n_starts));
    }
    let per_parameter = fit.n_points as f64 / fit.n_free.max(1) as f64;
    if per_parameter < 3. {
        warnings.push(format!(
            "{} points for {} parameters: intervals are wide and their asymptotics doubtful",
            fit.n_points, fit.n_free
        ));
    }
    warnings
}
