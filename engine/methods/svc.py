"""SVC: calibrate the singular values of a merge that count one direction for several experts.

Singular value calibration, as in fusion_bench, method `singular_value_calibration`, 2025.
"""

from typing import Annotated

import torch

from engine.decomposition import is_map, svd, times
from engine.method import MANY, Range, Tensors, merge_method

Floor = Annotated[float, Range(0.0, 1e6, open_low=True)]
"""A number above 0."""

_SMALL = 1e-12


@merge_method(
    space="delta", scope="tensor", paper="fusion_bench", n_models=(2, MANY), copies=(1, 24)
)
def svc(
    deltas: Tensors,
    *,
    tensor: str,
    alpha: Floor = 1.0,
    vocabulary: bool = False,
) -> torch.Tensor:
    """Shrink each direction of a merge by how many experts it was counted for.

    The first model is the merge, by any method, the others are its experts: in a file of several recipes the first
    makes the merge and this one names it. For each singular direction of ΔM = U diag(σ) Vᵀ, with a = uᵀ ΔM and a_i =
    uᵀ δ_i, the over-count is s_i = ⟨a, a_i⟩ / ‖a_i‖², and σ is multiplied with n / Σ max(α, s_i). Vectors, tables of tokens
    and tensors of more dimensions stay as merged. Law: experts that all are the merge leave it as it is.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        alpha: least over-count, α > 0; 1 never strengthens a direction.
        vocabulary: take embeddings and heads apart too, which are tables of tokens and otherwise averaged.

    Returns:
        The merged task vector, (*shape) float32.
    """
    merged, experts = deltas[0], deltas[1:]
    if not is_map(merged, tensor, vocabulary=vocabulary):
        return merged.clone()
    u, s, vh = svd(merged)
    own = s[:, None] * vh
    total = torch.zeros_like(s)
    for expert in experts:
        seen = times(u.T, expert.double())
        overlap = (own * seen).sum(1) / (seen * seen).sum(1).clamp(min=_SMALL)
        total += overlap.clamp(min=alpha)
    return times(u * (s * len(experts) / total), vh).float()
