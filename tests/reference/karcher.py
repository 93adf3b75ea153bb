"""The mean on the sphere: walk to where the pulls along the arcs cancel."""

import numpy as np
from reference.sphere import unit

EXEMPT = {"order": "where directions cancel out, the first one decides"}


def karcher(models, *, max_iter=10, tol=1e-5, tol_on_norms=False):
    lengths = [np.linalg.norm(m) for m in models]
    least = tol if tol_on_norms else 0.0
    units = [unit(m) for m, length in zip(models, lengths, strict=True) if length > least]
    if not units:
        return models[0] * 0.0
    mean = sum(units) / len(units)
    centre = units[0] if np.linalg.norm(mean) < max(tol, 1e-7) else unit(mean)
    for _ in range(max_iter):
        pull = sum(towards(centre, u, tol) for u in units) / len(units)
        size = np.linalg.norm(pull)
        if size < max(tol, 1e-7):
            break
        centre = unit(np.cos(size) * centre + np.sin(size) * pull / size)
    return sum(lengths) / len(models) * centre


def towards(centre, point, tol):
    """The way along the arc to a point; none to the same point or to the opposite one."""
    cosine = float(np.clip(np.sum(centre * point), -1, 1))
    angle = np.arccos(cosine)
    if angle < tol or np.pi - angle < tol or np.sin(angle) < 1e-7:
        return centre * 0.0
    return angle / np.sin(angle) * (point - cosine * centre)
