"""Iso-CTS: common directions and those of each task, orthogonal and of one strength.

Marczak et al., "No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces", ICML 2025.
arXiv:2502.04959
"""

import torch

from engine.decomposition import above_rounding, is_map, polar, svd, times
from engine.method import Fraction, Lambda, Tensors, merge_method
from engine.ops import weighted_sum


@merge_method(space="delta", scope="tensor", paper="2502.04959", copies=(4, 30))
def iso_cts(
    deltas: Tensors,
    *,
    tensor: str,
    lambda_: Lambda = 1.0,
    common: Fraction = 0.8,
    vocabulary: bool = False,
) -> torch.Tensor:
    """Join the strongest directions of the sum with some of each task's own, and give all the same strength.

    Of r directions s n are the tasks' own, s = round((r - int(r f)) / n), and the others common: the first of Σ δ_i, and
    of each δ_i - U Uᵀ δ_i, which has nothing of the common left vectors, the first s. Side by side and made orthonormal
    by P they are δ = λ mean(σ) P(U) P(V)ᵀ. s can round to 0: then it is Iso-C. Vectors, tables of tokens and tensors of
    more dimensions are averaged, λ mean δ_i. Laws: λ = 0 gives the base; the order does not matter.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        lambda_: scale, λ.
        common: share of directions that are common, f.
        vocabulary: take embeddings and heads apart too, which are tables of tokens and otherwise averaged.

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    mean = weighted_sum(deltas, [1 / n] * n)
    if not is_map(mean, tensor, vocabulary=vocabulary):
        return mean.mul_(lambda_)
    rank = min(mean.shape)
    n_own = round((rank - int(rank * common)) / n)
    u, s, vh = above_rounding(svd(weighted_sum(deltas, [1.0] * n)))
    largest = float(s[0]) if len(s) else 0.0
    kept = max(0, rank - n * n_own)
    u, s, vh = u[:, :kept], s[:kept], vh[:kept]
    lefts, strengths, rights = [], [], []
    for delta in deltas:
        own = delta.double()
        own -= times(u, times(u.T, own))
        left, strength, right = above_rounding(svd(own), largest)
        lefts.append(left[:, :n_own])
        strengths.append(strength[:n_own])
        rights.append(right[:n_own].T)
    left, right = (polar(torch.cat(x, dim=1)) for x in ([*lefts, u], [*rights, vh.T]))
    level = lambda_ * float(torch.cat([*strengths, s]).sum()) / max(1, left.shape[1])
    return times(left * level, right.T).float()
