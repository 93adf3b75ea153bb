"""Common directions and those of each task, of one strength."""

import numpy as np
from reference.spectra import above_rounding, is_map, polar, svd

EXEMPT = {
    "alone": "the spectrum of one model is flattened too",
    "coarse": "of equal singular values the library chooses the vectors",
    "copies": "the spectrum of one model is flattened too",
    "finite": "directions of 1e-10 beside 1e30 are rounding errors, and so is what they make",
}


def iso_cts(models, *, tensor, lambda_=1.0, common=0.8, vocabulary=False):
    n = len(models)
    if not is_map(models[0], tensor, vocabulary):
        return lambda_ * sum(models) / n
    rank = min(models[0].shape)
    own = round((rank - int(rank * common)) / n)
    u, s, vh = above_rounding(svd(sum(models)))
    top = s[0] if len(s) else 0.0
    kept = max(0, rank - n * own)
    u, s, vh = u[:, :kept], s[:kept], vh[:kept]
    parts = [above_rounding(svd(m - u @ (u.T @ m)), top) for m in models]
    left = polar(np.hstack([*(p[0][:, :own] for p in parts), u]))
    right = polar(np.hstack([*(p[2][:own].T for p in parts), vh.T]))
    strengths = np.concatenate([*(p[1][:own] for p in parts), s])
    return lambda_ * strengths.sum() / max(1, left.shape[1]) * left @ right.T
