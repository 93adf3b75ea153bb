"""Competition of entries, within a task vector and among them."""

import numpy as np
from reference.steps import each

CLIP = {"a": 1e-4, "b": 1e-2, "c": 1e-2, "d": 1e-2}

EXEMPT = {
    "alone": "the weaker entries of one model drop out as well",
    "coarse": "of equal scores rounding decides which are above the quantile",
    "copies": "the weaker entries of one model drop out as well",
    "finite": "products of 1e30 leave no room for the others in a softmax",
}


def norm(values):
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def pcb(models, *, weight=1.0, lambda_=1.0, ratio=0.2, variant="paper"):
    n, shape = len(models), models[0].shape
    flat = [m.reshape(-1) for m in models]
    size = flat[0].size
    if not size:
        return models[0]
    weights = each(weight, n)
    if variant == "paper":
        own = list(flat)
        said = []
        for m in flat:
            intra = np.exp(n * norm(m * m))
            inter = 0
            for other in flat:
                e = np.exp(norm(m * other))
                inter = inter + e / e.sum()
            beta = intra / intra.sum() * inter
            cut = np.sort(np.float32(beta * intra.sum()))[min(int(size * (1 - ratio)), size - 1)]
            said.append(np.where(np.float32(beta * intra.sum()) >= cut, beta, 0.0))
    else:
        c = CLIP[variant]
        own, sizes = [], []
        for m in flat:
            ordered = np.sort(abs(m))
            low, high = ordered[int(size * c)], ordered[max(0, int(size * (1 - c) - 1))]
            a = np.clip(abs(m), low, high)
            own.append(np.sign(m) * a)
            sizes.append(norm(a) if high > low else np.zeros(size))
        signed = [np.sign(m) * s for m, s in zip(flat, sizes, strict=True)]
        said = []
        for i, m in enumerate(flat):
            if variant == "d":
                inter = sum(np.tanh(signed[i] * other) for other in signed)
            else:
                inter = np.tanh(m * sum(signed if variant == "c" else flat))
            score = np.exp(n * sizes[i] ** 2) * inter
            ordered = np.sort(score)
            cut, top = ordered[min(int(size * (1 - ratio)), size - 1)], ordered[-1]
            said.append(np.clip((score - cut) / (top - cut), 0, 1) if top > cut else np.zeros(size))
    total = sum(w * v * s for w, v, s in zip(weights, own, said, strict=True))
    return (
        lambda_ * total / np.maximum(sum(said), 1e-12 if variant != "paper" else 1e-300)
    ).reshape(shape)
