"""KnOTS: merge task vectors in a basis that all of them share.

Stoica et al., "Model Merging with SVD to Tie the Knots", ICLR 2025. arXiv:2410.19735
"""

from typing import Literal

import torch

from engine.decomposition import is_map, svd, times
from engine.method import Density, Lambda, Tensors, Weight, merge_method, per_model
from engine.ops import agreeing_mean, elect_signs, largest, settle_ties, weighted_sum


@merge_method(space="delta", scope="tensor", paper="2410.19735", copies=(6, 14))
def knots(
    deltas: Tensors,
    *,
    tensor: str,
    weight: Weight = 1.0,
    density: Density = 1.0,
    lambda_: Lambda = 1.0,
    inner: Literal["ties", "task_arithmetic"] = "ties",
    vocabulary: bool = False,
) -> torch.Tensor:
    """Align task vectors by one singular value decomposition of them all, merge what is left of each, turn back.

    With the task vectors side by side, [δ_1 … δ_n] = U diag(σ) [V_1ᵀ … V_nᵀ], each becomes R_i = diag(σ) V_iᵀ, and
    δ = λ U merge(R_1 … R_n). Meant for adapters, whose task vectors have few directions. The paper trims by the whole
    model, here it is the matrix; it appends biases as columns and takes norms as diagonals, here they, and tables of
    tokens, are merged as they are. Laws: λ = 0 gives the base; one model at density 1 is given back.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        weight: coefficient of each task vector, w_i.
        density: share of entries that each R_i keeps, by magnitude; for TIES.
        lambda_: scale of the merged task vector, λ.
        inner: merge the R_i as TIES-Merging does, or add them up.
        vocabulary: align embeddings and heads too, which are tables of tokens.

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    weights, densities = per_model(weight, n), per_model(density, n)
    aligned, basis = list(deltas), None
    if is_map(deltas[0], tensor, vocabulary=vocabulary):
        u, s, vh = svd(torch.cat([delta.double() for delta in deltas], dim=1))
        basis = u
        parts = torch.tensor_split((s[:, None] * vh).float(), n, dim=1)
        aligned = [part.contiguous() for part in parts]
    if inner == "ties":
        merged = _ties([part.reshape(-1) for part in aligned], weights, densities)
    else:
        merged = weighted_sum(aligned, weights).reshape(-1)
    merged = merged.reshape(aligned[0].shape).mul_(lambda_)
    return merged if basis is None else times(basis, merged.double()).float()


def _ties(flat: list[torch.Tensor], weights: list[float], densities: list[float]) -> torch.Tensor:
    """Trim, elect signs with the majority's for ties, average what agrees; see `ties`."""
    scratch = torch.empty_like(flat[0])
    trimmed = [
        largest(values, density, scratch).keep(values).mul_(w)
        for values, density, w in zip(flat, densities, weights, strict=True)
    ]
    signs = elect_signs(trimmed, "sum")
    votes = int(signs.double().sum())
    return agreeing_mean(
        trimmed, settle_ties(signs, (votes > 0) - (votes < 0)), weights, normalize=True
    )
