"""Low rank: keep the strongest directions of one model's task vector.

The truncated singular value decomposition, by Eckart & Young, 1936; the low-rank edit of the unified view of delta
editing, arXiv:2410.13841.
"""

import torch

from engine.decomposition import is_map, svd, times
from engine.method import Count, Fraction, Tensors, merge_method


@merge_method(
    space="delta", scope="tensor", paper="2410.13841", n_models=(1, 1), makes="edit", copies=(1, 22)
)
def low_rank(
    deltas: Tensors,
    *,
    tensor: str,
    rank: Count = 16,
    energy: Fraction = 0.0,
    vocabulary: bool = False,
) -> torch.Tensor:
    """Keep the first singular directions of each matrix of the task vector, so many, or so much of its energy.

    With δ = U diag(σ) Vᵀ the first r directions stay: r = rank, or, where ``energy`` is above 0, the fewest with at
    least that share of Σ σ². Vectors, tables of tokens and tensors of more dimensions stay as they are. Laws: energy 1
    gives the model; the error is the nearest of its rank, √(Σ_{j>r} σ²).

    Args:
        deltas: the model's task vector, (1, *shape) float32.
        tensor: its name.
        rank: directions that stay.
        energy: share of Σ σ² that stays; 0: ``rank`` decides.
        vocabulary: shorten embeddings and heads too, which are tables of tokens.

    Returns:
        The edited task vector, (*shape) float32.
    """
    delta = deltas[0]
    if not is_map(delta, tensor, vocabulary=vocabulary):
        return delta.clone()
    u, s, vh = svd(delta)
    kept = rank
    if energy > 0:
        shares = (s * s).cumsum(0) / (s * s).sum().clamp(min=1e-300)
        kept = int((shares < energy * (1 - 1e-12)).sum()) + 1
    if kept >= len(s):
        return delta.clone()
    return times(u[:, :kept] * s[:kept], vh[:kept]).float()
