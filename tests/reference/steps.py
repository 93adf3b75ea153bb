"""Steps that several methods share: NumPy, float64, slow and obvious."""

import numpy as np


def each(value, n):
    """One value per model."""
    return [value] * n if isinstance(value, int | float) else list(value)


def dropped(models, uniforms, density):
    densities = each(density, len(models))
    return [np.where(u < p, m, 0.0) for m, u, p in zip(models, uniforms, densities, strict=True)]


def rescaled(models, uniforms, density, rescale, rescale_by):
    """DARE: drop, then divide by the density or by what is left of the L1 norm."""
    kept = dropped(models, uniforms, density)
    if not rescale:
        return kept
    if rescale_by == "density":
        return [m / p for m, p in zip(kept, each(density, len(models)), strict=True)]
    norms = [(abs(m).sum(), abs(k).sum()) for m, k in zip(models, kept, strict=True)]
    return [
        k * (before / after if min(before, after) >= 1e-7 else 1.0)
        for k, (before, after) in zip(kept, norms, strict=True)
    ]


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
