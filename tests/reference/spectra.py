"""Singular values the NumPy way, without null directions."""

import numpy as np


def is_map(array, tensor, vocabulary):
    table = any(word in tensor for word in ("embed_tokens", "lm_head"))
    return array.ndim == 2 and array.size > 0 and (vocabulary or not table)


def svd(matrix):
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)
    k = int((s > s[0] * max(matrix.shape) * 2.0**-52).sum())
    return u[:, :k], s[:k], vh[:k]


def polar(matrix):
    if not matrix.size:
        return matrix
    u, _, vh = svd(matrix)
    return u @ vh
