"""Iso-C: the sum of task vectors with all singular values alike.

Marczak et al., "No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces", ICML 2025.
arXiv:2502.04959
"""

import torch

from engine.decomposition import above_rounding, is_map, svd, times
from engine.method import Lambda, Tensors, merge_method
from engine.ops import weighted_sum


@merge_method(space="delta", scope="tensor", paper="2502.04959", copies=(1, 24))
def iso_c(
    deltas: Tensors,
    *,
    tensor: str,
    lambda_: Lambda = 1.0,
    vocabulary: bool = False,
) -> torch.Tensor:
    """Give every direction of the summed task vectors their mean strength.

    With Σ δ_i = U diag(σ) Vᵀ: δ = λ mean(σ) U Vᵀ. Strong common directions no longer drown the others. Directions that
    the sum does not have, or only by rounding, are left out, where the authors' code fills them at random: that matters for sums of
    low rank, such as those of adapters. Vectors, tables of tokens and tensors of more dimensions are averaged, λ mean
    δ_i. The authors choose λ on validation data. Laws: λ = 0 gives the base; the order does not matter.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        lambda_: scale, λ.
        vocabulary: take embeddings and heads apart too, which are tables of tokens and otherwise averaged.

    Returns:
        The merged task vector, (*shape) float32.
    """
    mean = weighted_sum(deltas, [1 / len(deltas)] * len(deltas))
    if not is_map(mean, tensor, vocabulary=vocabulary):
        return mean.mul_(lambda_)
    total = weighted_sum(deltas, [1.0] * len(deltas))
    u, s, vh = above_rounding(svd(total))
    level = lambda_ * float(s.sum()) / min(total.shape)
    return times(u * level, vh).float()
