"""The merge methods again: NumPy, float64, written from the papers, slow and obvious.

Every function takes the models' arrays (weights or task vectors), the method's parameters by their names in the
engine, and what the engine adds: ``base`` and ``tensor``, or ``uniforms``, one array of draws per model.
"""

import math

import numpy as np


def each(value, n):
    """One value per model."""
    return [value] * n if isinstance(value, int | float) else list(value)


def linear(models, *, weight=1.0, normalize=True):
    weights = each(weight, len(models))
    total = sum(w * m for w, m in zip(weights, models, strict=True))
    return total / sum(weights) if normalize else total


def passthrough(models, *, scale=1.0):
    (model,) = models
    return scale * model


def task_arithmetic(models, *, weight=1.0, lambda_=1.0, normalize=False):
    return lambda_ * linear(models, weight=weight, normalize=normalize)


def slerp(models, *, t=0.5):
    u, v = models
    lengths = np.linalg.norm(u) * np.linalg.norm(v)
    cosine = np.sum(u * v) / lengths if lengths else 1.0
    if abs(cosine) > 0.9995:
        return (1 - t) * u + t * v
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)


def dropped(models, uniforms, density):
    densities = each(density, len(models))
    return [np.where(u < p, m, 0.0) for m, u, p in zip(models, uniforms, densities, strict=True)]


def dare_linear(models, *, uniforms, weight=1.0, density=0.5, lambda_=1.0, rescale=True):
    n = len(models)
    total = np.zeros_like(models[0])
    for model, w, p in zip(
        dropped(models, uniforms, density), each(weight, n), each(density, n), strict=True
    ):
        total = total + w * (model / p if rescale else model)
    return lambda_ * total


def elected(values, sign):
    """-1, 0 or 1 for one entry of every model."""
    votes = values if sign == "sum" else [np.sign(v) for v in values]
    return int(np.sign(sum(votes)))


def merged_entry(values, weights, winner, normalize):
    """Disjoint mean (or sum) of one entry of every model."""
    agreeing = [i for i, value in enumerate(values) if value * winner > 0]
    total = sum(values[i] for i in agreeing)
    divisor = sum(weights[i] for i in agreeing) if normalize else 1.0
    return total / (divisor or 1.0)


def elect_and_merge(models, weights, *, lambda_, normalize, sign, tie):
    """The last two steps of TIES-Merging, for task vectors that are trimmed and weighted."""
    flat = [m.reshape(-1) for m in models]
    d = flat[0].size
    winners = [elected([m[j] for m in flat], sign) for j in range(d)]
    ties = {"majority": int(np.sign(sum(winners))), "positive": 1, "drop": 0}[tie]
    merged = [
        merged_entry([m[j] for m in flat], weights, winners[j] or ties, normalize) for j in range(d)
    ]
    return lambda_ * np.array(merged, dtype=np.float64).reshape(models[0].shape)


def trimmed(model, density):
    """The int(density · d) largest entries, at least one; of equal ones the first."""
    flat = model.reshape(-1)
    k = max(1, int(density * flat.size))
    by_size = sorted(range(flat.size), key=lambda j: (-abs(flat[j]), j))
    kept = np.zeros_like(flat)
    for j in by_size[:k]:
        kept[j] = flat[j]
    return kept.reshape(model.shape)


def ties(
    models, *, weight=1.0, density=0.2, lambda_=1.0, normalize=True, sign="sum", tie="majority"
):
    n = len(models)
    weights = each(weight, n)
    parts = [w * trimmed(m, p) for m, p, w in zip(models, each(density, n), weights, strict=True)]
    return elect_and_merge(parts, weights, lambda_=lambda_, normalize=normalize, sign=sign, tie=tie)


def dare_ties(
    models,
    *,
    uniforms,
    weight=1.0,
    density=0.5,
    lambda_=1.0,
    normalize=True,
    sign="sum",
    tie="positive",
):
    n = len(models)
    weights = each(weight, n)
    parts = [
        w * m / p
        for m, p, w in zip(
            dropped(models, uniforms, density), each(density, n), weights, strict=True
        )
    ]
    return elect_and_merge(parts, weights, lambda_=lambda_, normalize=normalize, sign=sign, tie=tie)


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
