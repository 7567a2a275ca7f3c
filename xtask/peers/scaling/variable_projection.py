"""Variable projection: a grid of 32 x 32 exponents with A, B and E solved for, all cells at once, then a local search of
all five parameters from the three best cells.

Refits start from the optimum and are those of scipy_best.py: a search in the two exponents alone, with the rest projected
out at every step, takes three times as long as MINPACK's in all five."""

import numpy as np
import scipy

from law import projected
from rival import serve
from solvers import best_of

EXPONENTS = np.geomspace(0.02, 3, 32)
CELLS = 3


def fit(points, objective):
    with np.errstate(all="ignore"):
        error, theta = projected(points, EXPONENTS, EXPONENTS, objective == "nls")
    best = np.argsort(error, axis=None)[:CELLS]
    return best_of(points, objective, theta.reshape(-1, 5)[best]), 1


serve(fit, None, f"numpy {np.__version__}, scipy {scipy.__version__}")
