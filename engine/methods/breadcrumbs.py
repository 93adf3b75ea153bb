"""Model Breadcrumbs: drop the largest and the smallest entries of task vectors, add the rest.

Davari & Belilovsky, "Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks", ECCV 2024.
arXiv:2312.06795
"""

import torch

from engine.crumbs import Crumbs, Small, crumbs_of, found_crumbs
from engine.magnitude import Per
from engine.method import Density, Lambda, Share, Tensors, Weight, merge_method, per_model
from engine.ops import shares, weighted_sum


@merge_method(
    ends_in_sum=True,
    space="delta",
    scope="tensor",
    survey=found_crumbs,
    survey_when={"per": ("tensor",)},
    rows_when={"per": ("row",)},
    paper="2312.06795",
    compat={"mergekit": {"density": 1.0, "gamma": 0.01, "small": "zero"}},
)
def breadcrumbs(
    deltas: Tensors,
    *,
    tensor: str = "",
    whole: list[Crumbs | None] | None = None,
    start: int = 0,
    weight: Weight = 1.0,
    density: Density = 0.2,
    gamma: Share = 0.01,
    lambda_: Lambda = 1.0,
    normalize: bool = False,
    per: Per = "tensor",
    small: Small = "keep",
) -> torch.Tensor:
    """Keep the entries of each task vector that are neither among its largest nor among its smallest.

    Of d entries the int(gamma d) largest go, and of the others all but int(density d), at least one. The paper sorts
    a layer, its authors' code a row, MergeLLM and mergekit a tensor. In mergekit a tensor of fewer than 1 / gamma
    entries loses its whole task vector: `small` says whether it does here. Law: λ = 0 gives the base.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        whole: what stays, from the survey; None: the tensors are whole.
        start: flat index of the first entry.
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
    values, picks = crumbs_of(
        deltas,
        whole,
        density=density,
        gamma=gamma,
        per=per,
        small=small,
        tensor=tensor,
        start=start,
    )
    coefficients = shares(weights) if normalize else weights
    return weighted_sum(values, [lambda_ * c for c in coefficients], picks)
