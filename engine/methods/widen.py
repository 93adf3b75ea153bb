"""WIDEN: weight disentanglement, merging by how far magnitudes and directions of columns moved.

Yu et al., "Extend Model Merging from Fine-Tuned to Pre-Trained Large Language Models via Weight Disentanglement",
2024. arXiv:2408.03092
"""

from dataclasses import dataclass

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import Look, Positive, Seen, Tensors, alone, merge_method
from engine.ops import fold, row_dots, slab_dots, weighted_columns
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
    magnitude, direction = _changes(
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
    flat: Tensors = models
    if isinstance(models, Slices):
        models.shape = torch.Size((len(base), base[0].numel()))
    else:
        flat = [m.flatten(1) for m in (*models, base)]
    if base.dim() == 2 and EMBEDDING.search(seen.tensor):  # noqa: PLR2004 - a matrix
        return True, [torch.stack(row_dots(flat, pairs)).numpy()]
    return False, list(slab_dots(flat, pairs))


@merge_method(space="delta", scope="tensor", rows=True, paper="2408.03092", survey=scored)
def widen(
    deltas: Tensors,
    *,
    base: torch.Tensor,
    tensor: str,
    whole: Scores | None = None,
    start: int = 0,
    above_average_value_ratio: Positive = 1.0,
    score_calibration_value: Positive = 1.0,
) -> torch.Tensor:
    """Weigh each column of each task vector by how much its magnitude and its direction changed, among all models.

    A column scores by the rank of its change within its model, softmaxed over models; a column that ranks above
    average scores ``score_calibration_value`` instead. Columns of an input embedding are its tokens; other tensors
    of more than two dimensions are matrices of shape[0] rows; entries of vectors score by their change itself.
    A column that is zero in the base or in the model has no direction: it ranks above all others, as in the
    authors' code. Equal changes rank by their place. Law: one model gives that model (at calibration 1).

    Scores are not shares: n models that rank one column above average add up to n times its change.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        base: the base's tensor, (*shape) float32.
        tensor: its name, which tells input embeddings.
        whole: the scores of the whole tensor, from the survey; None: the tensors are whole.
        start: flat index of the first entry.
        above_average_value_ratio: multiple of the average from which on a score is calibrated.
        score_calibration_value: the calibrated score.

    Returns:
        The merged task vector, (*shape) float32.
    """
    if whole is None:
        whole = scored(
            alone(Seen(tensor, deltas, base)),
            above_average_value_ratio=above_average_value_ratio,
            score_calibration_value=score_calibration_value,
        )
    n_rows = len(base) if base.dim() > 1 else 1
    scores = whole.values
    if whole.by_row:
        top = start // max(1, base[0].numel()) if n_rows else 0
        scores = scores[:, top : top + n_rows]
    return weighted_columns(deltas, scores, by_row=whole.by_row)


def _changes(dots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
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
