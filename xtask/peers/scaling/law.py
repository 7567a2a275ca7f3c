"""Chinchilla's law L = E + A/N^alpha + B/D^beta and its objectives, in numpy, with analytic derivatives.

theta is (ln A, ln B, ln E, alpha, beta). All sums are over points, weighted.
"""

import numpy as np

DELTA = 1e-3
SQUARES = ("nls-log", "nls")


class Points:
    """Runs as columns; a weight of 2 is a run that was drawn twice."""

    def __init__(self, ln_n, ln_d, loss, weight):
        self.ln_n, self.ln_d, self.loss, self.weight = ln_n, ln_d, loss, weight
        self.ln_loss = np.log(loss)
        self.root = np.sqrt(weight)

    @classmethod
    def read(cls, path, drop_highest):
        with open(path) as file:
            names = file.readline().strip().split(",")
            rows = [[float(cell) for cell in line.split(",")] for line in file]
        table = dict(zip(names, np.array(rows).T))
        kept = np.sort(np.argsort(table["loss"], kind="stable")[: len(rows) - drop_highest])
        n, d, loss = (table[name][kept] for name in ("N", "D", "loss"))
        return cls(np.log(n), np.log(d), loss, np.ones(len(kept)))

    def drawn(self, indices):
        """What was drawn, each point once."""
        counts = np.bincount(indices, minlength=len(self.loss))
        there = counts > 0
        return Points(self.ln_n[there], self.ln_d[there], self.loss[there], counts[there].astype(float))


def terms(theta, points):
    of_n = np.exp(theta[0] - theta[3] * points.ln_n)
    of_d = np.exp(theta[1] - theta[4] * points.ln_d)
    floor = np.exp(theta[2])
    return of_n, of_d, floor, of_n + of_d + floor


def log_residual(theta, points):
    """ln prediction - ln loss, unweighted."""
    return np.log(terms(theta, points)[3]) - points.ln_loss


def residual(theta, points, objective):
    """Whose squares are summed, weighted."""
    if objective == "nls":
        return points.root * (terms(theta, points)[3] - points.loss)
    return points.root * log_residual(theta, points)


def derivatives(theta, points, scale):
    """[parameter, point], each point's column times `scale`."""
    of_n, of_d, floor, _ = terms(theta, points)
    out = np.empty((5, len(scale)))
    np.multiply(of_n, scale, out=out[0])
    np.multiply(of_d, scale, out=out[1])
    np.multiply(floor, scale, out=out[2])
    np.multiply(out[0], -points.ln_n, out=out[3])
    np.multiply(out[1], -points.ln_d, out=out[4])
    return out


def jacobian(theta, points, objective):
    """Of `residual`, [parameter, point]."""
    if objective == "nls":
        return derivatives(theta, points, points.root)
    return derivatives(theta, points, points.root / terms(theta, points)[3])


def value(theta, points, objective):
    """What is minimised."""
    if objective in SQUARES:
        r = residual(theta, points, objective)
        return 0.5 * float(r @ r)
    if objective == "huber":
        return huber(theta, points, DELTA)[0]
    return float(points.weight @ np.abs(log_residual(theta, points)))


def huber(theta, points, delta):
    """Huber's sum with its gradient; one pass."""
    of_n, of_d, floor, total = terms(theta, points)
    r = np.log(total) - points.ln_loss
    clipped = np.minimum(np.maximum(r, -delta), delta)
    pull = points.weight * clipped
    f = float(pull @ (r - 0.5 * clipped))
    pull /= total
    of_n *= pull
    of_d *= pull
    gradient = np.array(
        [of_n.sum(), of_d.sum(), floor * pull.sum(), -(of_n @ points.ln_n), -(of_d @ points.ln_d)]
    )
    return f, gradient


def projected(points, alphas, betas, is_level):
    """Variable projection: for each pair of exponents the best A, B and E by normal equations, all pairs at once.

    Errors are relative unless `is_level`. Gives the squared error (infinite where a coefficient is not positive) and
    theta, [alpha, beta] and [alpha, beta, 5].
    """
    scale = points.root if is_level else points.root / points.loss
    target = points.root * points.loss if is_level else points.root
    mean_n, mean_d = points.ln_n.mean(), points.ln_d.mean()
    u = np.exp(-np.outer(alphas, points.ln_n - mean_n)) * scale
    v = np.exp(-np.outer(betas, points.ln_d - mean_d)) * scale
    gram = np.empty((len(alphas), len(betas), 3, 3))
    gram[..., 0, 0] = (u * u).sum(1)[:, None]
    gram[..., 1, 1] = (v * v).sum(1)[None, :]
    gram[..., 2, 2] = scale @ scale
    gram[..., 0, 1] = gram[..., 1, 0] = u @ v.T
    gram[..., 0, 2] = gram[..., 2, 0] = (u @ scale)[:, None]
    gram[..., 1, 2] = gram[..., 2, 1] = (v @ scale)[None, :]
    right = np.empty((len(alphas), len(betas), 3))
    right[..., 0] = (u @ target)[:, None]
    right[..., 1] = (v @ target)[None, :]
    right[..., 2] = scale @ target
    found = np.linalg.solve(gram, right[..., None])[..., 0]
    error = target @ target - (found * right).sum(-1)
    error[(found <= 0).any(-1)] = np.inf
    logs = np.log(np.maximum(found, 1e-3))
    theta = np.empty(error.shape + (5,))
    theta[..., 0] = logs[..., 0] + alphas[:, None] * mean_n
    theta[..., 1] = logs[..., 1] + betas[None, :] * mean_d
    theta[..., 2] = logs[..., 2]
    theta[..., 3] = alphas[:, None]
    theta[..., 4] = betas[None, :]
    return error, theta
