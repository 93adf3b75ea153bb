"""Arcee Fusion: keep the entries of a task vector that stand out, by their size and by what their row does.

Arcee AI, 2024, as in mergekit, `arcee_fusion`; there is no paper.
"""

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import Tensors, merge_method
from engine.ops import BLOCK, blocks, fold

_FLOOR = 1e-8
"""Added to every probability, so that none is 0."""


@merge_method(
    space="delta", scope="tensor", paper="arcee.ai", n_models=(1, 1), compat={"mergekit": {}}
)
def arcee_fusion(deltas: Tensors, *, base: torch.Tensor) -> torch.Tensor:
    """Keep an entry of the task vector if its importance is an outlier among those of its tensor.

    The importance of an entry is |δ| Σ p log(p/q), where p and q are the softmax of its row, the last axis, in the
    model and in the base, each plus 1e-8. Kept are importances of at least median + 1.5 (Q3 - Q1), the quantile q
    of d entries being the int(q (d-1))-th smallest of all of them; mergekit draws a million of larger tensors
    without a seed, and takes logarithms in float32, which see only noise in small task vectors. Laws: entries are
    kept as they are or are 0; where all importances are equal, as in a tensor of one entry, all are kept.

    Args:
        deltas: the task vector, (1, *shape) float32.
        base: the base's tensor, (*shape) float32.

    Returns:
        What is kept of the task vector, (*shape) float32.
    """
    delta = deltas[0].reshape(-1)
    kept = torch.zeros_like(delta)
    if not len(delta):
        return kept.reshape(base.shape)
    importance = _importance(delta, base.reshape(-1), base.shape[-1] if base.dim() else 1)
    last = len(delta) - 1
    places = [last // 4, last // 2, 3 * last // 4]
    low, middle, high = (float(x) for x in np.partition(importance, places)[places])
    threshold = middle + 1.5 * (high - low)
    for block in blocks(len(delta)):
        chosen = torch.from_numpy(importance[block] >= threshold)
        kept[block] = torch.where(chosen, delta[block], 0.0)
    return kept.reshape(base.shape)


def _importance(
    delta: torch.Tensor, base: torch.Tensor, columns: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Importance of each entry of rows of ``columns`` entries: (d,) float32."""
    importance = delta.abs().numpy()
    step = columns * max(1, BLOCK // columns)
    for start in range(0, len(delta), step):
        here = slice(start, start + step)
        before = base[here].double().numpy().reshape(-1, columns)
        after = before + delta[here].double().numpy().reshape(-1, columns)
        p, q = _probabilities(after), _probabilities(before)
        divergence = np.maximum(_row_sums(p * np.log(p / q)), 0.0)
        importance[here].reshape(-1, columns)[:] *= divergence.astype(np.float32)
    return importance


def _probabilities(rows: Floats) -> Floats:
    """Softmax of each row, plus `_FLOOR`: (rows, columns) float64."""
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / _row_sums(powers) + _FLOOR)


def _row_sums(values: Floats) -> Floats:
    """Sums of the rows, (rows, 1), in an order that depends on nothing."""
    return np.asarray(fold(torch.from_numpy(values.T.copy())).numpy()[:, None])
