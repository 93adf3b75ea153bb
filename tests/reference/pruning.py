"""Ranks, middles and chances, entry by entry."""

import numpy as np


def row_views(array, per):
    """The rows that are looked at together, as lists of places."""
    places = list(np.ndindex(array.shape))
    if per == "tensor" or array.ndim < 2:
        return [places]
    rows = {}
    for place in places:
        rows.setdefault(place[0], []).append(place)
    return list(rows.values())


def smallest_first(row, delta):
    """Places by magnitude; of equal ones the last first."""
    order = range(len(row))
    return [row[i] for i in sorted(order, key=lambda i: (abs(delta[row[i]]), -i))]


def middle(delta, density, gamma, per, small):
    kept = np.zeros_like(delta)
    for row in row_views(delta, per):
        size = len(row)
        if density >= 1 and small == "zero":
            chosen = row
        else:
            n = int(density * size)
            n = max(n, 1) if small == "keep" else n
            top = min(int(gamma * size), size - n) if size else 0
            by_size = smallest_first(row, delta)
            chosen = by_size[size - top - n : size - top] if n else []
            if top == 0 and small == "zero":
                chosen = []
        for place in chosen:
            kept[place] = delta[place]
    return kept


def chances(delta, density, epsilon):
    window = min(epsilon, density, 1 - density)
    found = np.full(delta.shape, float(density))
    for row in row_views(delta, "row"):
        by_size = smallest_first(row, delta)
        for rank, place in enumerate(by_size):
            if len(row) > 1:
                found[place] = density - window + 2 * window * rank / (len(row) - 1)
    return np.clip(found, 0, 1)


def by_chance(delta, uniforms, density, epsilon, rescale, rescale_by):
    stays = chances(delta, density, epsilon)
    # the engine's chances are float32, which decides draws that are equal to them
    kept = np.where(uniforms < stays.astype(np.float32), delta, 0.0)
    if not rescale:
        return kept
    if rescale_by == "keep":
        return kept / np.where(stays > 0, stays, 1.0)
    before, after = abs(delta).sum(), abs(kept).sum()
    return kept * before / after if min(before, after) >= 1e-7 else kept
