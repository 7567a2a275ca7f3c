"""The search that Hoffmann et al. 2022 describe, which most scripts follow: L-BFGS from 4,500 starts; with analytic
gradients and tolerances at which it reaches the optimum. Every 45th start is timed.

Refits are BFGS from the optimum of all points, as Besiroglu et al. 2024 have it."""

import itertools

import numpy as np
import scipy
from scipy.optimize import minimize

from law import DELTA, SQUARES, derivatives, huber, jacobian, residual, terms
from rival import serve

HALVES, FLOORS, FIVES = np.arange(0, 2.1, 0.5), np.arange(-1, 1.1, 0.5), np.arange(0, 26, 5)
STARTS = np.array(
    [(a, b, e, *exponents) for *exponents, e, a, b in itertools.product(HALVES, HALVES, FLOORS, FIVES, FIVES)]
)
STEP = 45


def scaled(theta, points, objective):
    """The objective with its gradient, of order one where it is smallest."""
    if objective == "huber":
        f, gradient = huber(theta, points, DELTA)
        return 1e3 * f, 1e3 * gradient
    if objective in SQUARES:
        r = residual(theta, points, objective)
        return 1e2 * 0.5 * (r @ r), 1e2 * (jacobian(theta, points, objective) @ r)
    total = terms(theta, points)[3]
    r = np.log(total) - points.ln_loss
    signs = points.weight * np.sign(r)
    return signs @ r, derivatives(theta, points, signs / total).sum(1)


def search(points, objective, theta, method, options):
    with np.errstate(all="ignore"):
        return minimize(
            scaled, theta, args=(points, objective), jac=True, method=method, options=options
        )


def fit(points, objective):
    options = {"ftol": 1e-15, "gtol": 1e-12, "maxiter": 2000, "maxfun": 5000}
    ends = [search(points, objective, start, "L-BFGS-B", options) for start in STARTS[::STEP]]
    values = [end.fun if np.isfinite(end.fun) else np.inf for end in ends]
    return ends[int(np.argmin(values))].x, len(ends) / len(STARTS)


def refit(points, objective, theta):
    return search(points, objective, theta, "BFGS", {"gtol": 1e-7, "maxiter": 1000}).x


assert len(STARTS) == 4500
serve(fit, refit, f"scipy {scipy.__version__}, numpy {np.__version__}")
