"""The minimiser of the interference with each task vector's own inputs."""

import numpy as np
from reference.spectra import is_map

EXEMPT = {
    "coarse": "whole numbers make squares that are singular but for rounding, where the inverse jumps"
}


def wudi(models, *, tensor, lambda_=1.0, vocabulary=False):
    if not is_map(models[0], tensor, vocabulary):
        return lambda_ * sum(models) / len(models)
    used = [m for m in models if m.any()]
    if not used:
        return np.zeros_like(models[0])
    moved = sum(m @ m.T @ m / np.sum(m * m) for m in used)
    square = sum(m.T @ m / np.sum(m * m) for m in used)
    return lambda_ * moved @ np.linalg.pinv(square, rcond=1e-12, hermitian=True)
