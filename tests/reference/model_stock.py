"""The average, drawn towards the base by the angle between task vectors."""

import numpy as np


def model_stock(models, *, filter_wise=False, bounded=True, average="cosine", norms_at_least=0.0):
    shape = models[0].shape
    if not models[0].size:
        return models[0]
    columns = shape[-1] if filter_wise and shape else models[0].size
    matrices = [m.reshape(-1, columns) for m in models]
    merged = np.zeros(matrices[0].shape)
    for i in range(len(merged)):
        rows = [m[i] for m in matrices]
        cosine = mean_cosine(rows, average, norms_at_least)
        merged[i] = share(cosine, len(rows), bounded) * sum(rows) / len(rows)
    return merged.reshape(shape)


def mean_cosine(rows, average, norms_at_least):
    cosines = []
    for i, u in enumerate(rows):
        for v in rows[i + 1 :]:
            lengths = max(np.linalg.norm(u) * np.linalg.norm(v), norms_at_least)
            cosines.append(np.clip(np.sum(u * v) / lengths, -1, 1) if lengths else 0.0)
    if average == "angle":
        return np.cos(np.mean(np.arccos(cosines)))
    return np.mean(cosines)


def share(cosine, n, bounded):
    """How much of the average is taken."""
    below = 1 + (n - 1) * cosine
    t = n * cosine / below if below >= 1e-6 else 0.0
    return min(max(t, 0.0), 1.0) if bounded else t
