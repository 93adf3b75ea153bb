"""Divergence: how far the rows of a model's matrix are from those of its base, taken as distributions."""

import numpy as np
import torch

from engine.kernels import Floats
from engine.ops import BLOCK, fold

_FLOOR = 1e-8
"""Added to every probability, so that none is 0."""


def row_divergences(changes: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
    """Σ p log(p/q) of each row, where p and q are its softmax with the change and without, each plus 1e-8.

    Law: a row's divergence depends on that row alone; it is at least 0.

    Args:
        changes: task vector, (rows, columns) float32.
        origin: the base, (rows, columns) float32.

    Returns:
        (rows,) float32; computed in float64, some rows at a time.
    """
    found = torch.zeros(len(changes))
    height = max(1, BLOCK // max(1, changes.shape[1]))
    for top in range(0, len(changes), height):
        part = slice(top, top + height)
        q = origin[part].double().numpy()
        p = _probabilities(q + changes[part].double().numpy())
        ratio = p / _probabilities(q)
        np.log(ratio, out=ratio)
        divergence = np.maximum(_row_sums(np.multiply(p, ratio, out=p)), 0.0)
        found[part] = torch.from_numpy(divergence[:, 0]).float()
    return found


def _probabilities(rows: Floats) -> Floats:
    """Softmax of each row, plus `_FLOOR`: (rows, columns) float64, in the place of the rows."""
    rows -= rows.max(axis=1, keepdims=True)
    np.exp(rows, out=rows)
    rows /= _row_sums(rows)
    rows += _FLOOR
    return rows


def _row_sums(values: Floats) -> Floats:
    """Sums of the rows, (rows, 1), in an order that depends on nothing."""
    return np.asarray(fold(torch.from_numpy(values.T.copy())).numpy()[:, None])
