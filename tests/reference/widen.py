"""Scores of columns by magnitude and direction."""

import math

import numpy as np

EXEMPT = {
    "copies": "columns that are important in n models are added n times",
    "coarse": "the order of nearly equal numbers decides",
}


def widen(models, *, base, tensor, above_average_value_ratio=1.0, score_calibration_value=1.0):
    t, s = above_average_value_ratio, score_calibration_value
    if base.ndim < 2:
        changes = [abs(m) for m in models]
        scores = widen_scores(changes, [c.sum() / max(1, c.size) for c in changes], t, s)
        return sum(m * score for m, score in zip(models, scores, strict=True))
    shape = base.shape
    matrices = [x.reshape(shape[0], math.prod(shape[1:])) for x in (base, *models)]
    transposed = base.ndim == 2 and "embed_tokens" in tensor
    if transposed:
        matrices = [m.T for m in matrices]
    base, *models = matrices
    moved = [column_changes(base, base + m) for m in models]
    n_columns = base.shape[1]
    averages = [(n_columns - 1) / 2 / max(1, n_columns)] * len(models)
    by_magnitude = widen_scores([ranks(m) for m, _ in moved], averages, t, s)
    by_direction = widen_scores([ranks(d) for _, d in moved], averages, t, s)
    scores = [(m + d) / 2 for m, d in zip(by_magnitude, by_direction, strict=True)]
    merged = sum(m * score for m, score in zip(models, scores, strict=True))
    return (merged.T if transposed else merged).reshape(shape)


def column_changes(old, new):
    """Change of each column's magnitude and direction, to 12 digits, so that what is equal compares equal."""
    magnitude, direction = [], []
    for j in range(old.shape[1]):
        u, v = old[:, j], new[:, j]
        m, n = np.linalg.norm(u), np.linalg.norm(v)
        magnitude.append(round(abs(n - m), 12))
        direction.append(round(1 - float(u / m @ (v / n)), 12) if m and n else math.inf)
    return magnitude, direction


def ranks(values):
    """The place of each value among all, as a fraction; equal values in their order."""
    n = len(values)
    order = sorted(range(n), key=lambda j: values[j])
    return np.array([order.index(j) / n for j in range(n)])


def widen_scores(significance, averages, t, s):
    """Softmax over models, and ``s`` where a model's significance is above ``t`` times its average."""
    powers = [np.exp(values) for values in significance]
    scores = [power / sum(powers) for power in powers]
    return [
        np.where(values > t * average, s, score)
        for values, average, score in zip(significance, averages, scores, strict=True)
    ]
