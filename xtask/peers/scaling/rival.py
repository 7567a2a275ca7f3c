"""What the rivals of `cargo xtask peers scaling` have in common: they stay alive and take turns.

Told `fit OBJECTIVE SECONDS`, a program fits again and again for that long; told `refit OBJECTIVE COUNT`, it fits the
first so many resamples of the file, each from one warm start, the optimum of all points.
"""

import json
import os
import sys
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from law import Points, value


def answer(**fields):
    """One line for whoever started this program."""
    print(json.dumps(fields), flush=True)


def serve(fit, refit, versions):
    """`fit(points, objective)` gives theta, and the share of the whole job that was done (1 but for the script of
    4,500 starts); `refit(points, objective, theta)` gives theta, or is None where the program has no way of its own."""
    given = json.loads(sys.argv[1])
    points = Points.read(given["table"], given["drop_highest"])
    draws = np.fromfile(given["resamples"], dtype="<u2").reshape(-1, len(points.loss)).astype(int)
    warm = {}
    answer(ready=True, points=len(points.loss), versions=versions)
    for line in sys.stdin:
        words = line.split()
        if len(words) != 3 or words[0] not in ("fit", "refit"):
            sys.exit(f"not understood: {line.strip()}")
        objective = words[1]
        if words[0] == "fit":
            repeats, start, least = 0, time.perf_counter(), float(words[2])
            while repeats == 0 or time.perf_counter() - start < least:
                theta, share = fit(points, objective)
                repeats += 1
            seconds = time.perf_counter() - start
            warm[objective] = theta
            answer(jobs=repeats * share, seconds=seconds, objectives=[value(theta, points, objective)])
        elif refit is None:
            answer(jobs=0, seconds=0, objectives=[])
        else:
            if objective not in warm:
                warm[objective] = fit(points, objective)[0]
            found, start = [], time.perf_counter()
            for indices in draws[: int(words[2])]:
                drawn = points.drawn(indices)
                found.append((refit(drawn, objective, warm[objective]), drawn))
            seconds = time.perf_counter() - start
            objectives = [value(theta, drawn, objective) for theta, drawn in found]
            answer(jobs=len(found), seconds=seconds, objectives=objectives)
