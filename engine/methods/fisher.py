"""Fisher merging: average each parameter by how much each model's predictions depend on it.

Matena and Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022. arXiv:2111.09832
"""

from typing import Annotated

import torch

from engine.method import PER_MODEL, Look, PerModel, Range, Seen, Tensors, merge_method, per_model
from engine.ops import blocks, shares, weighted_sum
from engine.products import dots

Importance = Annotated[PerModel, Range(0.0, 1e6, open_low=True), PER_MODEL]
"""Coefficient of each model, c_i above 0; a model that shall not count is left out."""

Floor = Annotated[float, Range(0.0, 1e6, open_low=True)]
"""What is added to every Fisher information, so that a parameter no model cares about has a mean."""

_LARGEST = torch.finfo(torch.float32).max


def survey(look: Look, *, normalize_fisher: bool = False) -> list[float] | None:
    """‖F_i‖ of each model over all tensors, where the Fisher information is normalized and there is any."""
    if not normalize_fisher:
        return None
    squares = [found for _, found in look(_squares) if found is not None]
    return [sum(of_model) ** 0.5 for of_model in zip(*squares, strict=True)] or None


@merge_method(space="weight", scope="model", whole=True, paper="2111.09832", survey=survey)
def fisher(
    weights: Tensors,
    *,
    statistics: Tensors | None,
    whole: list[float] | None,
    weight: Importance = 1.0,
    epsilon: Floor = 1e-6,
    normalize_fisher: bool = False,
) -> torch.Tensor:
    """Average the models, each entry weighted by its diagonal Fisher information.

    W = Σ c_i (F_i + ε) W_i / Σ c_i (F_i + ε), as MergeLM computes it; the authors' code raises F to at least ε, and
    only of the first model. A tensor without statistics is the mean weighted by c. Where ε is far above all F the
    result comes near that mean, so choose it far below the information that is stored. Laws: one model, or copies
    of one, give that model; equal F give the weighted mean.

    Args:
        weights: each model's tensor, (n, *shape) float32, in the recipe's order.
        statistics: each model's diagonal Fisher information, (n, *shape) float32, at least 0; None where there
            is none. Infinite counts as the largest number.
        whole: ‖F_i‖ over all tensors that have statistics.
        weight: c_i.
        epsilon: ε.
        normalize_fisher: divide c_i by ‖F_i‖ + ε, so that no model counts more because its gradients are larger.

    Returns:
        The merged tensor, (*shape) float32.
    """
    coefficients = shares(per_model(weight, len(weights)))
    if statistics is None:
        return weighted_sum(weights, coefficients)
    if normalize_fisher and whole is not None:
        coefficients = [c / (norm + epsilon) for c, norm in zip(coefficients, whole, strict=True)]
    merged = torch.empty_like(weights[0], memory_format=torch.contiguous_format).view(-1)
    pairs = [(w.reshape(-1), f.reshape(-1)) for w, f in zip(weights, statistics, strict=True)]
    for block in blocks(merged):
        total = torch.zeros(len(merged[block]), dtype=torch.float64)
        divisor = torch.zeros_like(total)
        for (values, information), coefficient in zip(pairs, coefficients, strict=True):
            share = information[block].clamp(0, _LARGEST).double().add_(epsilon).mul_(coefficient)
            divisor += share
            total += share.mul_(values[block])
        merged[block] = total.div_(divisor)
    return merged.view(weights[0].shape)


def _squares(seen: Seen) -> list[float] | None:
    """Σ F² of each model over one tensor."""
    if seen.statistics is None:
        return None
    known = [information.clamp(0, _LARGEST) for information in seen.statistics]
    return dots(known, [(i, i) for i in range(len(known))])
