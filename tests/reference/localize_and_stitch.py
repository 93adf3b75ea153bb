"""The largest entries of each model, averaged where they overlap."""

import numpy as np
from reference.steps import each, trimmed


def localize_and_stitch(models, *, tensor, density=0.01, lambda_=1.0, strict=False):
    parts = []
    for model, share in zip(models, each(density, len(models)), strict=True):
        part = trimmed(model, share)
        k = max(1, int(share * model.size))
        sizes = np.sort(abs(model.reshape(-1)))[::-1]
        if strict and model.size and sizes[k - 1] > 0:
            part = np.where(abs(part) > sizes[k - 1], part, 0.0)
        parts.append(part)
    count = sum((p != 0).astype(int) for p in parts)
    return lambda_ * sum(parts) / np.maximum(count, 1)
