"""Model Breadcrumbs: drop the largest and the smallest entries of task vectors, add the rest.

Davari & Belilovsky, "Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks", ECCV 2024.
arXiv:2312.06795
"""

from typing import Literal

import torch

from engine.magnitude import Per
from engine.method import Density, Lambda, Share, Tensors, Weight, merge_method, per_model
from engine.ops import shares, weighted_sum
from engine.pruning import middle


@merge_method(
    space="delta",
    scope="tensor",
    paper="2312.06795",
    compat={"mergekit": {"density": 1.0, "gamma": 0.01, "small": "zero"}},
    copies=(1, 10),
)
def breadcrumbs(
    deltas: Tensors,
    *,
    weight: Weight = 1.0,
    density: Density = 0.2,
    gamma: Share = 0.01,
    lambda_: Lambda = 1.0,
    normalize: bool = False,
    per: Per = "tensor",
    small: Literal["keep", "zero"] = "keep",
) -> torch.Tensor:
    """Keep the entries of each task vector that are neither among its largest nor among its smallest.

    Of d entries the int(gamma d) largest go, and of the others all but int(density d), at least one. The paper sorts
    a layer, its authors' code a row, MergeLLM and mergekit a tensor. In mergekit a tensor of fewer than 1 / gamma
    entries loses its whole task vector: `small` says whether it does here. Law: λ = 0 gives the base.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        weight: coefficient of each task vector, w_i.
        density: share of the entries that stays.
        gamma: share of the largest entries that goes.
        lambda_: scale of the merged task vector, λ.
        normalize: divide by Σ w_i.
        per: drop entries of the tensor, or of each row.
        small: where no large entry goes, "keep" the others, or "zero" them all and, at density 1, keep all entries.

    Returns:
        The merged task vector, (*shape) float32.

    Raises:
        BadParameter: if Σ w_i = 0 and ``normalize``.
    """
    n = len(deltas)
    weights = per_model(weight, n)
    keep = small == "keep"
    kept = [
        middle(delta, p, g, per, keep_small=keep)
        for delta, p, g in zip(deltas, per_model(density, n), per_model(gamma, n), strict=True)
    ]
    coefficients = shares(weights) if normalize else weights
    return weighted_sum(kept, [lambda_ * c for c in coefficients])
