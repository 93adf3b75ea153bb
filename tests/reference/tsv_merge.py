"""The strongest singular vectors of each task vector, orthogonalised together."""

import numpy as np
from reference.spectra import above_rounding, is_map, polar, svd

EXEMPT = {
    "coarse": "of equal singular values the library chooses the vectors",
    "copies": "of n copies each gives the same n-th part of its directions",
}


def tsv_merge(models, *, tensor, lambda_=1.0, vocabulary=False):
    if not is_map(models[0], tensor, vocabulary):
        return lambda_ * sum(models) / len(models)
    k = max(1, min(models[0].shape) // len(models))
    parts = [above_rounding(svd(m)) for m in models]
    left = polar(np.hstack([u[:, :k] for u, _, _ in parts]))
    right = polar(np.hstack([vh[:k].T for _, _, vh in parts]))
    return lambda_ * left @ np.diag(np.concatenate([s[:k] for _, s, _ in parts])) @ right.T
