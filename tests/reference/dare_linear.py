"""Random drop, rescale, add."""

import numpy as np
from reference.steps import dropped, each


def dare_linear(models, *, uniforms, weight=1.0, density=0.5, lambda_=1.0, rescale=True):
    n = len(models)
    total = np.zeros_like(models[0])
    for model, w, p in zip(
        dropped(models, uniforms, density), each(weight, n), each(density, n), strict=True
    ):
        total = total + w * (model / p if rescale else model)
    return lambda_ * total
