"""One local search for each objective with scipy's solvers, each with analytic derivatives; what was fastest of those
that reach the optimum."""

import numpy as np
from scipy.optimize import leastsq, minimize

from law import (
    DELTA,
    SQUARES,
    derivatives,
    huber,
    jacobian,
    log_residual,
    projected,
    residual,
    terms,
    value,
)

# Twelve pairs of exponents to start from.
ALPHAS, BETAS = np.array([0.15, 0.35, 0.7]), np.array([0.1, 0.25, 0.45, 0.8])


def starts(points):
    """For each pair the best A, B, E."""
    return projected(points, ALPHAS, BETAS, False)[1].reshape(-1, 5)


def squares(points, objective, theta):
    """MINPACK's Levenberg-Marquardt, called without a wrapper."""
    found = leastsq(
        residual,
        theta,
        args=(points, objective),
        Dfun=jacobian,
        col_deriv=True,
        ftol=1e-12,
        xtol=1e-12,
        maxfev=400,
    )
    return found[0]


def quasi_newton(points, theta, delta):
    """L-BFGS on Huber's sum, scaled to order one, in coordinates in which the curvature at the start is a sphere: with
    them it takes a quarter of the time of BFGS or of a trust region with exact curvature."""
    unit = 1 / (delta * points.weight.sum())
    sphere = coordinates(points, theta, delta, unit)

    def scaled(z):
        f, gradient = huber(theta + sphere @ z, points, delta)
        return unit * f, unit * (gradient @ sphere)

    found = minimize(
        scaled,
        np.zeros(5),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-7, "maxiter": 1000},
    )
    return theta + sphere @ found.x


def coordinates(points, theta, delta, unit):
    """A root of the inverse of Gauss and Newton's curvature, where residuals beyond delta weigh delta / |r|."""
    total = terms(theta, points)[3]
    r = np.abs(np.log(total) - points.ln_loss)
    weight = points.weight * np.minimum(1, delta / np.maximum(r, 1e-300))
    rows = derivatives(theta, points, np.sqrt(unit * weight) / total)
    curvature = rows @ rows.T
    curvature[np.diag_indices(5)] *= 1 + 1e-10
    return np.linalg.inv(np.linalg.cholesky(curvature)).T


def absolute(points, theta, deltas):
    """Least absolute deviations: Huber's sum with an ever smaller delta, then the five points that the law passes
    through, found by Newton's method."""
    for delta in deltas:
        theta = quasi_newton(points, theta, delta)
    return through_points(points, theta)


def through_points(points, theta):
    best, lowest = theta, value(theta, points, "lad")
    closest = np.argsort(np.abs(log_residual(theta, points)))[:5]
    for _ in range(5):
        total = terms(theta, points)[3]
        rows = derivatives(theta, points, 1 / total)[:, closest]
        r = (np.log(total) - points.ln_loss)[closest]
        try:
            theta = theta - np.linalg.solve(rows.T, r)
        except np.linalg.LinAlgError:
            return best
        now = value(theta, points, "lad")
        if not now < lowest:
            return best
        best, lowest = theta, now
    return best


# What absolute deviations are approached by, from anywhere and from an optimum of almost the same points.
COLD, WARM = (1e-3, 3e-5, 1e-6), (1e-4, 3e-6)


def refine(points, objective, theta, deltas=WARM):
    if objective in SQUARES:
        return squares(points, objective, theta)
    if objective == "huber":
        return quasi_newton(points, theta, DELTA)
    return absolute(points, theta, deltas)


def best_of(points, objective, thetas):
    """The lowest of many searches; one that goes astray is left out."""
    with np.errstate(all="ignore"):
        found = []
        for theta in thetas:
            try:
                found.append(refine(points, objective, theta, COLD))
            except np.linalg.LinAlgError:
                continue
        values = [value(theta, points, objective) for theta in found]
    return found[int(np.nanargmin(values))]
