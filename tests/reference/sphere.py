"""Directions and arcs: NumPy, float64, on whole vectors."""

import numpy as np


def unit(vector):
    """The direction of a vector; zeros for a vector of zeros."""
    length = np.linalg.norm(vector)
    return vector / length if length else vector * 0.0


def between(u, v, t, *, zero="linear"):
    """The point at t on the arc from u to v."""
    lengths = np.linalg.norm(u), np.linalg.norm(v)
    if min(lengths) == 0 and zero == "linear":
        return (1 - t) * u + t * v
    least = 1e-7 if zero == "orthogonal" else 0.0
    cosine = np.sum(u * v) / (max(lengths[0], least) * max(lengths[1], least))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-7:
        return (1 - t) * u + t * v
    return (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)
