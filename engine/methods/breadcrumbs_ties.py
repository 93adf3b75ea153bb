"""Model Breadcrumbs with elected signs: drop the largest and the smallest entries of task vectors, merge as TIES does.

Davari & Belilovsky, "Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks", ECCV 2024.
arXiv:2312.06795; signs as in TIES-Merging, Yadav et al., arXiv:2306.01708, which is mergekit's addition
"""

from typing import Literal

import torch

from engine.crumbs import Crumbs, Small, crumbs_of, found_crumbs
from engine.magnitude import Per
from engine.method import Density, Lambda, Share, Tensors, Weight, merge_method, per_model
from engine.ops import Sign, agreement


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
def breadcrumbs_ties(
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
    sign: Sign = "sum",
    tie: Literal["positive", "drop"] = "positive",
) -> torch.Tensor:
    """Keep the entries of each task vector that are neither among its largest nor among its smallest, elect signs.

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
        normalize: divide by the weights of the models that agree.
        per: drop entries of the tensor, or of each row.
        small: where no large entry goes, "keep" the others, or "zero" them all and, at density 1, keep all entries.
        sign: elected by the sum of values, or by the count of signs.
        tie: where neither sign wins, take the positive entries, as mergekit does, or none.

    Returns:
        The merged task vector, (*shape) float32.
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
    return agreement(
        values, weights, picks=picks, sign=sign, winner=1 if tie == "positive" else 0,
        normalize=normalize, lambda_=lambda_,
    )  # fmt: skip
