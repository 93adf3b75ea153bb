"""Signs, and one magnitude for all or for each block of equal count."""

import math
from statistics import NormalDist

import numpy as np

EXEMPT = {
    "alone": "what is kept of a projection is one bit per entry",
    "copies": "what is kept of a projection is one bit per entry",
    "order": "there is only one model",
    "random": "nothing is drawn by default",
    "unbiased": "nothing is drawn by default, and nothing is dropped",
}


def bitdelta(
    models, *, tensor, uniforms, bits=1, beta=1.0, magnitudes="mean", zero="minus", all_tensors=False
):  # fmt: skip
    (model,), (drawn,) = models, uniforms
    projection = "proj" in tensor and ("mlp" in tensor or "self_attn" in tensor)
    if not all_tensors and not (projection and model.ndim == 2):
        return model.copy()
    flat, u = model.reshape(-1), drawn.reshape(-1)
    d, n_blocks = flat.size, 2 ** (bits - 1)
    by_size = sorted(range(d), key=lambda j: (abs(flat[j]), j))
    edited = np.zeros_like(flat)
    for block in range(n_blocks):
        places = by_size[block * d // n_blocks : (block + 1) * d // n_blocks]
        mean = sum(abs(flat[j]) for j in places) / max(1, len(places))
        for j in places:
            sign = np.sign(flat[j]) or {"minus": -1, "plus": 1, "zero": 0}[zero]
            edited[j] = sign * beta * mean * factor(u[j], magnitudes)
    return edited.reshape(model.shape)


def factor(u, magnitudes):
    """A random magnitude of mean 1: 2u, or |z| of a Gaussian z, to 2⁻¹⁶."""
    if magnitudes == "mean":
        return 1.0
    if magnitudes == "uniform":
        return 2 * u
    z = NormalDist().inv_cdf((1 + u) / 2)
    return round(z * math.sqrt(math.pi / 2) * 2**16) / 2**16
