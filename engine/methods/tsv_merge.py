"""TSV-Merge: the strongest singular vectors of each task vector, made orthogonal to those of the others.

Gargiulo et al., "Task Singular Vectors: Reducing Task Interference in Model Merging", CVPR 2025. arXiv:2412.00081
"""

import torch

from engine.decomposition import above_rounding, is_map, polar, svd, times
from engine.method import Lambda, Tensors, merge_method
from engine.ops import weighted_sum


@merge_method(space="delta", scope="tensor", paper="2412.00081", copies=(6, 28))
def tsv_merge(
    deltas: Tensors,
    *,
    tensor: str,
    lambda_: Lambda = 1.0,
    vocabulary: bool = False,
) -> torch.Tensor:
    """Keep the strongest directions of each task vector and turn them until they do not interfere.

    Of each δ_i the first k = r / n of its r singular triples stay, at least one; their left vectors side by side are
    U, the right ones V, and δ = λ P(U) diag(σ) P(V)ᵀ, where P takes the nearest orthonormal matrix; a
    direction that tasks share is there once, where the authors' code completes it as the library happens to. Vectors, tables of
    tokens and tensors of more dimensions are averaged, λ mean δ_i. Laws: λ = 0 gives the base; one model is given
    back; the order does not matter.

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
    k = max(1, min(mean.shape) // len(deltas))
    parts = [above_rounding(svd(delta)) for delta in deltas]
    left = polar(torch.cat([u[:, :k] for u, _, _ in parts], dim=1))
    right = polar(torch.cat([vh[:k].T for _, _, vh in parts], dim=1))
    strengths = torch.cat([s[:k] for _, s, _ in parts])
    return times(left * (lambda_ * strengths), right.T).float()
