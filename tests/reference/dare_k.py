"""Dropped entries keep a part of themselves, the others make up for it."""

import numpy as np
from reference.steps import each

EXEMPT = {
    "unbiased": "dropped entries keep a part of themselves, so few are zero; the mean has a test of its own"
}


def dare_k(models, *, uniforms, weight=1.0, density=0.5, k=0.5, lambda_=1.0):
    n = len(models)
    total = np.zeros_like(models[0])
    for model, u, w, kept in zip(models, uniforms, each(weight, n), each(density, n), strict=True):
        p = 1 - kept
        total = total + w * np.where(u < kept, model * (1 - k * p) / (1 - p), k * model)
    return lambda_ * total
