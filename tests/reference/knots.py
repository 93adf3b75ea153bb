"""Task vectors in a shared basis."""

import numpy as np
from reference.spectra import is_map
from reference.steps import each, elect_and_merge, trimmed

EXEMPT = {
    "coarse": "the basis decides which entries are large, and of equal singular values the library chooses it",
    "order": "the sign of a singular vector is that of its largest entry, and ties go with the majority of signs",
}


def knots(models, *, tensor, weight=1.0, density=1.0, lambda_=1.0, inner="ties", vocabulary=False):
    n = len(models)
    weights, aligned, basis = each(weight, n), models, None
    if is_map(models[0], tensor, vocabulary):
        u, s, vh = np.linalg.svd(np.hstack(models), full_matrices=False)
        k = int((s > s[0] * max(models[0].shape[0], models[0].shape[1] * n) * 2.0**-52).sum())
        signs = np.sign(u[abs(u).argmax(0), np.arange(u.shape[1])])
        basis, rows = (u * signs)[:, :k], (signs[:, None] * s[:, None] * vh)[:k]
        aligned = [np.float64(np.float32(r)) for r in np.split(rows, n, axis=1)]
    if inner == "ties":
        parts = [
            w * trimmed(m, p) for m, p, w in zip(aligned, each(density, n), weights, strict=True)
        ]
        merged = elect_and_merge(
            parts, weights, lambda_=lambda_, normalize=True, sign="sum", tie="majority"
        )
    else:
        merged = lambda_ * sum(w * m for w, m in zip(weights, aligned, strict=True))
    return merged if basis is None else basis @ merged
