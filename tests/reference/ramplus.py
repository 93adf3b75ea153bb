"""RAM, with what only one model changed scaled up by how much that model shares."""

import numpy as np


def ramplus(models, *, r=0.1, alpha=0.2, epsilon=1e-5):
    changed = [abs(m) > epsilon for m in models]
    count = sum(c.astype(int) for c in changed)
    merged = np.zeros_like(models[0])
    for model, own in zip(models, changed, strict=True):
        unique, shared = own & (count == 1), own & (count > 1)
        ratio = shared.sum() / max(unique.sum(), epsilon, 1e-8) if shared.any() else 0.0
        merged = merged + np.where(unique, model * (1 + r * min(ratio, alpha)), 0)
        merged = merged + np.where(shared, model / np.maximum(count, 1), 0)
    return merged
