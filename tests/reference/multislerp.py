"""Weighted mean of directions and of lengths, apart from each other."""

import numpy as np
from reference.steps import each


def multislerp(models, *, base, weight=1.0, normalize_weights=True, eps=1e-8):
    if len(models) == 1:
        return models[0]
    weights = np.array(each(weight, len(models)), dtype=np.float64)
    if normalize_weights:
        weights = weights / weights.sum()
    deltas = [model - base for model in models]
    lengths = [np.linalg.norm(delta) for delta in deltas]
    units = [
        d / (length + eps) if length else d * 0.0 for d, length in zip(deltas, lengths, strict=True)
    ]
    mean = sum(w * u for w, u in zip(weights, units, strict=True))
    size = np.linalg.norm(mean)
    if size <= max(eps, 1e-7 * sum(abs(weights))):
        return base + sum(w * d for w, d in zip(weights, deltas, strict=True))
    return base + sum(w * length for w, length in zip(weights, lengths, strict=True)) * mean / size
