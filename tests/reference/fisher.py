"""Average weighted by Fisher information."""

import numpy as np
from reference.steps import each


def fisher(models, *, statistics, weight=1.0, epsilon=1e-6, normalize_fisher=False):
    weights = each(weight, len(models))
    if statistics is None:
        return sum(w * m for w, m in zip(weights, models, strict=True)) / sum(weights)
    if normalize_fisher:
        norms = [np.sqrt((f**2).sum()) for f in statistics]
        weights = [w / (norm + epsilon) for w, norm in zip(weights, norms, strict=True)]
    shares = [w * (f + epsilon) for w, f in zip(weights, statistics, strict=True)]
    return sum(s * m for s, m in zip(shares, models, strict=True)) / sum(shares)
