"""The arc between two tensors."""

import numpy as np

EXEMPT = {"order": "t = 0 is the first model"}


def slerp(models, *, t=0.5, zero="linear"):
    u, v = models
    lengths = np.linalg.norm(u), np.linalg.norm(v)
    if min(lengths) <= 1e-8 and zero == "orthogonal":
        return np.cos(t * np.pi / 2) * u + np.sin(t * np.pi / 2) * v
    cosine = np.sum(u * v) / (lengths[0] * lengths[1]) if min(lengths) else 1.0
    if abs(cosine) > 0.9995:
        return (1 - t) * u + t * v
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)
