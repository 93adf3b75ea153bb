"""Random drop, rescale, add."""

import numpy as np
from reference.steps import each, rescaled


def dare_linear(
    models, *, uniforms, weight=1.0, density=0.5, lambda_=1.0, normalize=False, rescale=True,
    rescale_by="density",
):  # fmt: skip
    weights = each(weight, len(models))
    total = np.zeros_like(models[0])
    kept = rescaled(models, uniforms, density, rescale, rescale_by)
    for model, w in zip(kept, weights, strict=True):
        total = total + w * model
    return lambda_ * total / (sum(weights) if normalize else 1.0)
