"""Arcee Fusion: keep the entries of a task vector that stand out, by their size and by what their row does.

Arcee AI, 2024, as in mergekit, `arcee_fusion`; there is no paper.
"""

from dataclasses import dataclass

import torch

from engine.divergence import row_divergences
from engine.method import Look, Seen, Tensors, alone, merge_method
from engine.selection import order_statistics


@dataclass(frozen=True)
class Outliers:
    """What stands out in a tensor.

    Attributes:
        divergence: of each row, the last axis: Σ p log(p/q), (rows,) float32.
        threshold: importance from which on an entry is kept.
    """

    divergence: torch.Tensor
    threshold: float


def outliers(look: Look) -> Outliers:
    """Find the rows' divergences, and from their importances what stands out."""
    rows = [found for _, found in look(_divergences)]
    divergence = torch.cat(rows) if rows else torch.zeros(0)

    def importances(seen: Seen) -> list[torch.Tensor]:
        delta = seen.models[0]
        return [_importance(delta, divergence, seen.start).reshape(-1)]

    (found,) = order_statistics(look, importances, _quartiles) or [[]]
    low, middle, high = found or [0.0] * 3
    return Outliers(divergence, middle + 1.5 * (high - low))


@merge_method(
    space="delta", scope="tensor", rows=True, paper="arcee.ai", n_models=(1, 1), survey=outliers,
    compat={"mergekit": {}},
)  # fmt: skip
def arcee_fusion(
    deltas: Tensors, *, base: torch.Tensor, whole: Outliers | None = None, start: int = 0
) -> torch.Tensor:
    """Keep an entry of the task vector if its importance is an outlier among those of its tensor.

    The importance of an entry is |δ| Σ p log(p/q), where p and q are the softmax of its row, the last axis, in the
    model and in the base, each plus 1e-8. Kept are importances of at least median + 1.5 (Q3 - Q1), the quantile q
    of d entries being the int(q (d-1))-th smallest of all of them; mergekit draws a million of larger tensors
    without a seed, and takes logarithms in float32, which see only noise in small task vectors. Laws: entries are
    kept as they are or are 0; where all importances are equal, as in a tensor of one entry, all are kept.

    Args:
        deltas: the task vector, (1, *shape) float32.
        base: the base's tensor, (*shape) float32.
        whole: what stands out, from the survey; None: the tensors are whole.
        start: flat index of the first entry.

    Returns:
        What is kept of the task vector, (*shape) float32.
    """
    delta = deltas[0]
    if whole is None:
        whole = outliers(alone(Seen("", deltas, base)))
    stays = _importance(delta, whole.divergence, start) >= whole.threshold
    return torch.where(stays, delta, 0.0)


def _quartiles(size: int) -> list[int]:
    """Places of the first quartile, the median and the third quartile."""
    last = size - 1
    return [last // 4, last // 2, 3 * last // 4]


def _importance(delta: torch.Tensor, divergence: torch.Tensor, start: int) -> torch.Tensor:
    """Importance of each entry of some rows of a tensor, from flat index ``start`` on: (*shape) float32."""
    columns = delta.shape[-1] if delta.dim() else 1
    top = start // max(1, columns)
    rows = delta.abs().reshape(-1, max(1, columns))
    return rows.mul_(divergence[top : top + len(rows), None]).reshape(delta.shape)


def _divergences(seen: Seen) -> torch.Tensor:
    """The divergence of each row, the last axis: (rows,) float32."""
    delta, base = seen.models[0], seen.base
    if base is None:
        message = f"tensor {seen.tensor} has no base"
        raise ValueError(message)
    columns = max(1, delta.shape[-1] if delta.dim() else 1)
    return row_divergences(delta.reshape(-1, columns), base.reshape(-1, columns))
