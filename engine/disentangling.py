"""Weights disentangled: how far magnitudes and directions of columns moved, and what each model weighs there.

Yu et al., "Extend Model Merging from Fine-Tuned to Pre-Trained Large Language Models via Weight Disentanglement",
2024. arXiv:2408.03092
"""

from dataclasses import dataclass

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import Look, Seen, Tensors
from engine.ops import fold
from engine.products import row_dots, slab_dots
from engine.slices import Slices
from registry.tensor_name import EMBEDDING

_PARALLEL = 1e-12
"""A δ whose squared sine with W_0 is below this is parallel to it: float32 knows no better."""


@dataclass(frozen=True)
class Scores:
    """How much each model's columns weigh, or rows.

    Attributes:
        values: (n, columns) or (n, rows) float32.
        by_row: they are rows.
    """

    values: torch.Tensor
    by_row: bool


def scored(
    look: Look, *, above_average_value_ratio: float = 1.0, score_calibration_value: float = 1.0
) -> Scores:
    """Score the columns of a tensor, of an input embedding the rows, of a vector the entries."""
    ratio, calibrated = above_average_value_ratio, score_calibration_value
    by_row, dots = False, None
    rows: list[Floats] = []
    for _, found in look(_looked_at):
        if isinstance(found, torch.Tensor):
            means = fold(found.T.clone()).div_(max(1, found.shape[1]))
            return Scores(_scores(found, ratio * means[:, None], calibrated).float(), by_row=False)
        by_row, slabs = found
        for slab in slabs:
            if by_row:
                rows.append(slab)
            else:
                dots = slab if dots is None else dots + slab
    products = np.concatenate(rows, axis=1) if by_row else dots
    magnitude, direction = changes(
        torch.from_numpy(np.zeros((3, 0)) if products is None else products)
    )
    n_columns = magnitude.shape[1]
    average = (n_columns - 1) / 2 / max(1, n_columns)
    scores = _scores(_ranks(magnitude), ratio * average, calibrated)
    scores += _scores(_ranks(direction), ratio * average, calibrated)
    return Scores(scores.mul_(0.5).float(), by_row)


def _looked_at(seen: Seen) -> torch.Tensor | tuple[bool, list[Floats]]:
    """Of a vector, its changes; of a matrix, whether rows count, and dot products of slabs, (pairs, columns or rows)."""
    models, base = seen.models, seen.base
    if base is None or base.dim() < 2:  # noqa: PLR2004 - vectors and single numbers
        return torch.stack([delta.reshape(-1).double().abs_() for delta in models])
    n = len(models)
    pairs = [(n, n), *((n, i) for i in range(n)), *((i, i) for i in range(n))]
    matrices: Tensors = models if isinstance(models, Slices) else [*models, base]
    if base.dim() == 2 and EMBEDDING.search(seen.tensor):  # noqa: PLR2004 - a matrix
        return True, [torch.stack(row_dots(matrices, pairs)).numpy()]
    return False, list(slab_dots(matrices, pairs))


def changes(dots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far columns moved in magnitude and in direction: two (n, columns) float64.

    The first is the absolute change of ‖W‖, the second 1 - cos(W_i, W_0).
    From the products a = W_0·W_0, b = W_0·δ and c = δ·δ, which lose nothing when δ is small: (1 + 2 n, columns).
    """
    n = len(dots) // 2
    a, b, c = dots[:1], dots[1 : n + 1], dots[n + 1 :]
    squared = (a + 2 * b + c).clamp_(min=0)  # ‖W_i‖²
    before, after = a.sqrt(), squared.sqrt()
    magnitude = (2 * b + c).abs_().div_(before + after).nan_to_num_(0.0)
    cosine = (a + b) / (before * after)
    across = a * c - b * b  # Lagrange's identity: ‖W_0‖² ‖δ‖² sin²(W_0, δ)
    sine_squared = across.masked_fill_(across < _PARALLEL * a * c, 0.0) / (a * squared)
    direction = torch.where(cosine > 0, sine_squared / (1 + cosine), 1 - cosine)
    return magnitude, direction.masked_fill_((a == 0) | (squared == 0), torch.inf)


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Rank of each column within its row, as a fraction of the columns: 0, 1/c, …, (c-1)/c."""
    n_columns = values.shape[1]
    places = torch.arange(n_columns, dtype=torch.float64) / max(1, n_columns)
    order = values.argsort(dim=1, stable=True)
    return torch.empty_like(values).scatter_(1, order, places.expand(len(values), -1))


def _scores(
    significance: torch.Tensor, threshold: torch.Tensor | float, calibrated: float
) -> torch.Tensor:
    """Softmax over models, (n, columns) float64; ``calibrated`` where the significance exceeds the threshold."""
    return significance.softmax(0).masked_fill_(significance > threshold, calibrated)
