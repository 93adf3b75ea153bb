"""Both tails of each task vector are dropped, the rest is added."""

import numpy as np
from reference.pruning import middle
from reference.steps import each

EXEMPT = {
    "alone": "gamma drops the largest entries at any density",
    "copies": "gamma drops the largest entries at any density",
}


def breadcrumbs(
    models,
    *,
    weight=1.0,
    density=0.2,
    gamma=0.01,
    lambda_=1.0,
    normalize=False,
    per="tensor",
    small="keep",
):
    n = len(models)
    weights = each(weight, n)
    parts = [
        w * middle(m, p, g, per, small)
        for m, w, p, g in zip(models, weights, each(density, n), each(gamma, n), strict=True)
    ]
    return lambda_ * np.sum(parts, axis=0) / (sum(weights) if normalize else 1.0)
