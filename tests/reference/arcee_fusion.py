"""Keep the entries of outstanding importance."""

import math

import numpy as np

EXEMPT = {
    "alone": "only important entries are kept",
    "copies": "only important entries are kept",
    "order": "there is only one model",
    "coarse": "equal importances decide what is kept",
}


def arcee_fusion(models, *, base):
    (delta,) = models
    if not delta.size:
        return delta
    columns = delta.shape[-1] if delta.ndim else 1
    rows, before = delta.reshape(-1, columns), base.reshape(-1, columns)
    importance = np.array(
        [[abs(x) * divergence(b + d, b) for x in d] for d, b in zip(rows, before, strict=True)]
    )
    ordered = sorted(importance.reshape(-1).tolist())
    low, middle, high = (ordered[int(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75))
    return np.where(importance >= middle + 1.5 * (high - low), rows, 0.0).reshape(delta.shape)


def divergence(new, old):
    """How far two rows are apart, as distributions."""
    p, q = probabilities(new), probabilities(old)
    return max(0.0, sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)))


def probabilities(row):
    powers = [math.exp(x - max(row)) for x in row]
    return [power / sum(powers) + 1e-8 for power in powers]
