"""WIDEN: weight disentanglement, merging by how far magnitudes and directions of columns moved.

Yu et al., "Extend Model Merging from Fine-Tuned to Pre-Trained Large Language Models via Weight Disentanglement",
2024. arXiv:2408.03092
"""

import torch

from engine.disentangling import Scores, scored
from engine.method import Positive, Seen, Tensors, alone, merge_method
from engine.ops import weighted_columns


@merge_method(
    ends_in_sum=True, space="delta", scope="tensor", rows=True, paper="2408.03092", survey=scored
)
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
