"""Random drop with chances by rank, then a sum."""

import numpy as np
from reference.pruning import by_chance
from reference.steps import each

EXEMPT = {
    "coarse": "the order of equal magnitudes is that of their places, and draws are compared in float32",
    "unbiased": "chances differ by rank; the mean has a test of its own",
}


def della_linear(
    models,
    *,
    uniforms,
    weight=1.0,
    density=0.7,
    epsilon=0.07,
    lambda_=1.0,
    normalize=False,
    rescale=True,
    rescale_by="keep",
):
    n = len(models)
    weights = each(weight, n)
    parts = [
        w * by_chance(m, u, p, e, rescale, rescale_by)
        for m, u, w, p, e in zip(
            models, uniforms, weights, each(density, n), each(epsilon, n), strict=True
        )
    ]
    return lambda_ * np.sum(parts, axis=0) / (sum(weights) if normalize else 1.0)
