"""Select by variance, calculate weights, erase what disagrees."""

import numpy as np

EXEMPT = {
    "coarse": "of equal variances rounding decides which is the larger",
    "finite": "squares of 1e30 are beyond float32, in which variances are compared",
}


def sce(models, *, select_topk=1.0, lambda_=1.0, select="all", least=0.0):
    n, flat = len(models), [m.reshape(-1) for m in models]
    masked = flat
    if select_topk < 1:
        mean = sum(flat) / n
        variance = np.float32(sum((m - mean) ** 2 for m in flat) / n)
        k = int(select_topk * np.count_nonzero(variance))
        order = sorted(range(len(variance)), key=lambda j: (-variance[j], j))
        mask = np.zeros(len(variance))
        mask[order[:k]] = 1
        masked = [m * mask for m in flat]
    squares = [np.mean(m * m) if m.size else 0.0 for m in masked]
    total = sum(squares)
    weights = [1 / n] * n if total == 0 or total < least else [s / total for s in squares]
    values = masked if select == "all" else flat
    merged = np.zeros(flat[0].size)
    for j in range(merged.size):
        sign = 1 if sum(v[j] for v in values) >= 0 else -1
        agree = [i for i in range(n) if values[i][j] * sign > 0]
        divisor = sum(weights[i] for i in agree)
        merged[j] = sum(weights[i] * values[i][j] for i in agree) / divisor if divisor else 0.0
    return lambda_ * merged.reshape(models[0].shape)
