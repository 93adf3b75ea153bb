"""Singular values the NumPy way, without null directions."""

import numpy as np


def is_map(array, tensor, vocabulary):
    table = any(word in tensor for word in ("embed_tokens", "lm_head"))
    return array.ndim == 2 and array.size > 0 and (vocabulary or not table)


def svd(matrix):
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)
    k = int((s > s[0] * max(matrix.shape) * 2.0**-52).sum())
    return u[:, :k], s[:k], vh[:k]


def above_rounding(parts, largest=None):
    """What a float32 task vector can tell from nothing: twice the spectral norm of noise of 2^-23 σ_1."""
    u, s, vh = parts
    top = largest if largest is not None else s[0] if len(s) else 0.0
    k = int((s > 2 * (len(u) ** 0.5 + vh.shape[1] ** 0.5) * 2.0**-23 * top).sum())
    return u[:, :k], s[:k], vh[:k]


def polar(matrix):
    if not matrix.size:
        return matrix
    u, _, vh = above_rounding(svd(matrix))
    return u @ vh
