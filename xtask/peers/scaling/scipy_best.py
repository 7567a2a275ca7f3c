"""scipy with its fastest solver for each objective, from twelve starts."""

import numpy as np
import scipy

from rival import serve
from solvers import best_of, refine, starts


def fit(points, objective):
    return best_of(points, objective, starts(points)), 1


def refit(points, objective, theta):
    return refine(points, objective, theta)


serve(fit, refit, f"scipy {scipy.__version__}, numpy {np.__version__}")
