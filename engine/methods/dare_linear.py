"""DARE: drop entries of task vectors at random, rescale the rest, add them up.

Yu et al., "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch", ICML 2024.
arXiv:2311.03099
"""

from typing import Literal

import torch

from engine.draws import Draws
from engine.method import Density, Lambda, Seen, Tensors, Weight, alone, merge_method, per_model
from engine.ops import shares, weighted_sum
from engine.pick import Drawn
from engine.pruning import l1_shares


@merge_method(
    ends_in_sum=True,
    space="delta",
    scope="element",
    paper="2311.03099",
    compat={"mergekit": {"density": 1.0, "rescale_by": "l1"}},
    survey=l1_shares,
    survey_when={"rescale_by": ("l1",)},
)
def dare_linear(
    deltas: Tensors,
    *,
    draws: Draws,
    whole: list[float] | None = None,
    weight: Weight = 1.0,
    density: Density = 0.5,
    lambda_: Lambda = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    rescale_by: Literal["density", "l1"] = "density",
) -> torch.Tensor:
    """Drop random entries of each task vector, rescale those that stay, and add the task vectors to the base.

    δ = λ Σ w_i m_i ⊙ δ_i / p_i, where each entry of the mask m_i is 1 with probability p_i = density. The paper
    counts what is dropped: its p is 1 - density. The division keeps the expectation; mergekit divides by what the
    drawn mask left of the L1 norm instead. Laws: density 1 is task arithmetic; λ = 0 gives the base.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        draws: random numbers of this slice.
        whole: what is left of the L1 norms of the whole tensor, from the survey; None: the tensors are whole.
        weight: coefficient of each task vector, w_i.
        density: probability that an entry stays.
        lambda_: scale of the merged task vector, λ.
        normalize: divide by Σ w_i.
        rescale: divide by the density.
        rescale_by: or by the share of the tensor's L1 norm that the mask left, as mergekit does.

    Returns:
        The merged task vector, (*shape) float32.

    Raises:
        BadParameter: if Σ w_i = 0 and ``normalize``.
    """
    n = len(deltas)
    densities, weights = per_model(density, n), per_model(weight, n)
    left = densities
    if rescale_by == "l1":
        if whole is None:
            whole = l1_shares(alone(Seen("", deltas, draws=draws)), density=densities)
        left = whole
    scales = [
        lambda_ * w / (p if rescale else 1.0)
        for w, p in zip(shares(weights) if normalize else weights, left, strict=True)
    ]
    return weighted_sum(deltas, scales, [Drawn(draws, i, p) for i, p in enumerate(densities)])
