"""DELLA without elected signs: drop entries at random, small ones more often, rescale and add.

Deep et al., "DELLA-Merging: Reducing Interference in Model Merging through Magnitude-Based Sampling", 2024.
arXiv:2406.11617
"""

from typing import Literal

import torch

from engine.draws import Draws
from engine.method import (
    Density,
    Lambda,
    Share,
    Tensors,
    Weight,
    merge_method,
    per_model,
)
from engine.ops import shares
from engine.pruned import Pruning, weighted_sum
from engine.pruning import l1_factors


@merge_method(
    ends_in_sum=True,
    anywhere=False,  # ranks are the processor's
    space="delta",
    scope="tensor",
    rows=True,
    survey=l1_factors,
    survey_when={"rescale_by": ("l1",)},
    paper="2406.11617",
    compat={"mergekit": {"density": 1.0, "epsilon": 0.15, "rescale_by": "l1"}},
    copies=(1, 10),
)
def della_linear(
    deltas: Tensors,
    *,
    draws: Draws,
    whole: list[float] | None = None,
    weight: Weight = 1.0,
    density: Density = 0.7,
    epsilon: Share = 0.07,
    lambda_: Lambda = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    rescale_by: Literal["keep", "l1"] = "keep",
) -> torch.Tensor:
    """Drop entries of each task vector at random by their rank within their row, rescale, and add.

    Entry of rank r = 0 (smallest) to m - 1 stays with q = density - ε + 2 ε r / (m - 1) and is divided by q: MagPrune.
    Vectors are one row; a row of one entry has q = density. The paper counts what is dropped and calls 2 ε its ε;
    where density ± ε leaves [0, 1] its code fails, here ε is made smaller. Of equal magnitudes the first ranks
    highest. mergekit rescales by the L1 norm that is left instead. Laws: λ = 0 gives the base; density 1 is task
    arithmetic.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        draws: random numbers of this slice.
        whole: factors that keep the L1 norms of the whole tensor, from the survey; None: the tensors are whole.
        weight: coefficient of each task vector, w_i.
        density: mean probability that an entry stays.
        epsilon: how much more the largest entry stays than the mean, and the smallest less, ε.
        lambda_: scale of the merged task vector, λ.
        normalize: divide by Σ w_i.
        rescale: rescale the entries that stay.
        rescale_by: each by its own probability, or all so that the tensor's L1 norm stays.

    Returns:
        The merged task vector, (*shape) float32.

    Raises:
        BadParameter: if Σ w_i = 0 and ``normalize``.
    """
    weights = per_model(weight, len(deltas))
    pruning = Pruning(density, epsilon, rescale_by if rescale else None, whole)
    coefficients = shares(weights) if normalize else weights
    return weighted_sum(deltas, draws, pruning, [lambda_ * c for c in coefficients])
