"""Trim, elect, disjoint merge."""

import numpy as np
from reference.steps import each, elect_and_merge, trimmed


def ties(
    models, *, tensor="", weight=1.0, density=0.2, lambda_=1.0, normalize=True, sign="sum", tie="majority",
    scope="model", of="all",
):  # fmt: skip
    n = len(models)
    weights = each(weight, n)
    shares = each(density, n)
    if scope == "tensor" and of == "changed":
        counts = [max(1, int(p * np.count_nonzero(m))) for m, p in zip(models, shares, strict=True)]
        shares = [(k + 0.5) / max(1, m.size) for m, k in zip(models, counts, strict=True)]
    parts = [w * trimmed(m, p) for m, p, w in zip(models, shares, weights, strict=True)]
    return elect_and_merge(parts, weights, lambda_=lambda_, normalize=normalize, sign=sign, tie=tie)
