"""DARE with TIES: drop and rescale at random, then elect signs and average what agrees.

Yu et al., arXiv:2311.03099, who prune with DARE in front of TIES-Merging, Yadav et al., arXiv:2306.01708.
"""

from typing import Literal

import torch

from engine.draws import Draws
from engine.method import Density, Lambda, Seen, Tensors, Weight, alone, merge_method, per_model
from engine.ops import Sign, agreement
from engine.pick import Drawn
from engine.pruning import l1_shares


@merge_method(
    ends_in_sum=True,
    space="delta",
    scope="element",
    paper="2311.03099",
    compat={"mergekit": {"density": 1.0, "normalize": False, "rescale_by": "l1"}},
    survey=l1_shares,
    survey_when={"rescale_by": ("l1",)},
)
def dare_ties(
    deltas: Tensors,
    *,
    draws: Draws,
    whole: list[float] | None = None,
    weight: Weight = 1.0,
    density: Density = 0.5,
    lambda_: Lambda = 1.0,
    normalize: bool = True,
    rescale: bool = True,
    rescale_by: Literal["density", "l1"] = "density",
    sign: Sign = "sum",
    tie: Literal["positive", "drop"] = "positive",
) -> torch.Tensor:
    """Drop random entries of each task vector, rescale, elect a sign for every entry, average those that agree.

    DARE takes the place of TIES's trimming. Weights multiply before the election. Laws: λ = 0 gives the base; at
    density 1 it is TIES without trimming.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        draws: random numbers of this slice.
        whole: what is left of the L1 norms of the whole tensor, from the survey; None: the tensors are whole.
        weight: coefficient of each task vector, w_i.
        density: probability that an entry stays.
        lambda_: scale of the merged task vector, λ.
        normalize: divide by the weights of the models that agree; without it, the agreeing entries are summed.
        rescale: divide by the density.
        rescale_by: or by the share of the tensor's L1 norm that the mask left, as mergekit does.
        sign: elected by the sum of values, or by the count of signs.
        tie: where neither sign wins, take the positive entries, as mergekit does, or none. (The majority sign of
            TIES-Merging needs the whole tensor.)

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    weights, densities = per_model(weight, n), per_model(density, n)
    left = densities if rescale else [1.0] * n
    if rescale and rescale_by == "l1":
        if whole is None:
            whole = l1_shares(alone(Seen("", deltas, draws=draws)), density=densities)
        left = whole
    return agreement(
        deltas, weights, scales=[w / p for w, p in zip(weights, left, strict=True)],
        picks=[Drawn(draws, i, p) for i, p in enumerate(densities)],
        sign=sign, winner=1 if tie == "positive" else 0, normalize=normalize, lambda_=lambda_,
    )  # fmt: skip
