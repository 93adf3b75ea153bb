"""WIDEN: weight disentanglement, merging by how far magnitudes and directions of columns moved.

Yu et al., "Extend Model Merging from Fine-Tuned to Pre-Trained Large Language Models via Weight Disentanglement",
2024. arXiv:2408.03092
"""

import torch

from engine.method import Positive, Tensors, merge_method
from engine.ops import BLOCK, column_dots, fold
from registry.tensor_name import EMBEDDING

_PARALLEL = 1e-12
"""A δ whose squared sine with W_0 is below this is parallel to it: float32 knows no better."""


@merge_method(space="delta", scope="tensor", paper="2408.03092")
def widen(
    deltas: Tensors,
    *,
    base: torch.Tensor,
    tensor: str,
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
        above_average_value_ratio: multiple of the average from which on a score is calibrated.
        score_calibration_value: the calibrated score.

    Returns:
        The merged task vector, (*shape) float32.
    """
    ratio, calibrated = above_average_value_ratio, score_calibration_value
    if base.dim() < 2:  # noqa: PLR2004 - vectors and single numbers
        changes = torch.stack([delta.reshape(-1).double().abs_() for delta in deltas])
        means = fold(changes.T.clone()).div_(max(1, changes.shape[1]))
        scores = _scores(changes, ratio * means[:, None], calibrated).float()
        rows = [delta.reshape(1, -1) for delta in deltas]
        return _weigh(rows, scores, by_row=False).reshape(base.shape)
    by_row = base.dim() == 2 and EMBEDDING.search(tensor)  # noqa: PLR2004 - a matrix
    matrices = [x.flatten(1) for x in (base, *deltas)]
    magnitude, direction = _changes([m.T for m in matrices] if by_row else matrices)
    n_columns = magnitude.shape[1]
    average = (n_columns - 1) / 2 / max(1, n_columns)
    scores = _scores(_ranks(magnitude), ratio * average, calibrated)
    scores += _scores(_ranks(direction), ratio * average, calibrated)
    return _weigh(matrices[1:], scores.mul_(0.5).float(), by_row=bool(by_row)).reshape(base.shape)


def _changes(matrices: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """How far columns moved in magnitude and in direction: two (n, columns) float64.

    The first is the absolute change of ‖W‖, the second 1 - cos(W_i, W_0).
    From the products a = W_0·W_0, b = W_0·δ and c = δ·δ, which lose nothing when δ is small.
    """
    n = len(matrices) - 1
    pairs = [(0, 0), *((0, i) for i in range(1, n + 1)), *((i, i) for i in range(1, n + 1))]
    dots = torch.stack(column_dots(matrices, pairs))
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


def _weigh(deltas: Tensors, scores: torch.Tensor, *, by_row: bool) -> torch.Tensor:
    """Σ δ_i times the score of its column, or of its row, in the order given: (rows, columns) float32."""
    merged = torch.zeros_like(deltas[0])
    step = max(1, BLOCK // max(1, merged.shape[1]))
    for top in range(0, len(merged), step):
        rows = slice(top, top + step)
        for delta, score in zip(deltas, scores, strict=True):
            merged[rows] += delta[rows] * (score[rows, None] if by_row else score)
    return merged
