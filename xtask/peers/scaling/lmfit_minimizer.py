"""lmfit, from the same twelve starts as scipy, with analytic derivatives."""

import lmfit
import numpy as np

from law import DELTA, SQUARES, huber, jacobian, residual, value
from rival import serve
from solvers import COLD, starts, through_points

NAMES = ("a", "b", "e", "alpha", "beta")


def parameters(theta):
    made = lmfit.Parameters()
    for name, start in zip(NAMES, theta):
        made.add(name, value=start)
    return made


def numbers(made):
    return np.array([made[name].value for name in NAMES])


def search(points, objective, theta):
    if objective in SQUARES:
        minimizer = lmfit.Minimizer(
            lambda made: residual(numbers(made), points, objective),
            parameters(theta),
            calc_covar=False,
        )
        found = minimizer.leastsq(
            Dfun=lambda made: jacobian(numbers(made), points, objective),
            col_deriv=True,
            ftol=1e-12,
            xtol=1e-12,
            max_nfev=400,
        )
        return numbers(found.params)
    deltas = (DELTA,) if objective == "huber" else COLD
    for delta in deltas:
        theta = quasi_newton(points, theta, delta)
    return theta if objective == "huber" else through_points(points, theta)


def quasi_newton(points, theta, delta):
    unit = 1 / (delta * points.weight.sum())
    minimizer = lmfit.Minimizer(
        lambda made: unit * huber(numbers(made), points, delta)[0],
        parameters(theta),
        calc_covar=False,
    )
    found = minimizer.scalar_minimize(
        method="BFGS",
        Dfun=lambda made: unit * huber(numbers(made), points, delta)[1],
        options={"gtol": 1e-9, "maxiter": 500},
    )
    return numbers(found.params)


def fit(points, objective):
    with np.errstate(all="ignore"):
        ends = [search(points, objective, theta) for theta in starts(points)]
        values = [value(theta, points, objective) for theta in ends]
    return ends[int(np.nanargmin(values))], 1


serve(fit, search, f"lmfit {lmfit.__version__}")
