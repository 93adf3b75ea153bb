"""RegMean: the matrix whose outputs are nearest to those of all models, each on its own inputs.

Jin et al., "Dataless Knowledge Fusion by Merging Weights of Language Models", ICLR 2023. arXiv:2212.09849
"""

import torch

from engine.method import Fraction, Tensors, merge_method
from engine.ops import weighted_sum
from registry.errors import BadParameter

_RIDGES = tuple(10.0**-digits for digits in range(10, 1, -1))
"""What is added to the unit diagonal of the scaled sum of Grams: the first with which it is positive."""

_STRIP = 1024
"""Columns of a Gram that are read at once."""


@merge_method(space="weight", scope="tensor", paper="2212.09849")
def regmean(
    weights: Tensors, *, tensor: str, statistics: Tensors | None, gamma: Fraction = 0.9
) -> torch.Tensor:
    """Solve a linear regression for each linear layer, from the Gram matrices of the models' inputs.

    W^T = (Σ G_i)⁻¹ Σ G_i W_i^T with G_i = X_i^T X_i, whose entries off the diagonal are multiplied by γ first. It is
    solved for the distance from the plain mean, in float64: directions that no input has, where the authors' code
    fails or returns noise, keep the mean. A tensor of which not every model has a Gram of shape (in, in) is the
    plain mean; that a stored Gram fits is the plan's to check. Whether Grams are divided by the number of inputs
    decides how much each model counts. Laws: copies of one model give that model; equal Grams give the mean.

    Args:
        weights: each model's tensor, (n, *shape) float32, in the recipe's order; matrices are (out, in).
        tensor: its name.
        statistics: each model's Gram, (n, in, in) float32; None where there is none.
        gamma: γ; below 1 the regression is well posed. The paper takes 0.9, and 0.1 for T5.

    Returns:
        The merged tensor, (*shape) float32.

    Raises:
        BadParameter: the Grams are none: their sum is far from positive, or not finite.
    """
    n = len(weights)
    mean = weighted_sum(weights, [1.0 / n] * n)
    fits = statistics is not None and all(
        weights[0].dim() == 2 and gram.shape == (weights[0].shape[1],) * 2  # noqa: PLR2004
        for gram in statistics
    )
    if statistics is None or not fits or not mean.numel():
        return mean
    left, right = _normal_equations(weights, statistics, mean, gamma)
    diagonal = left.diagonal().clone()
    scale = torch.where(diagonal > 0, diagonal.rsqrt(), 0.0)
    left.mul_(scale).mul_(scale[:, None])
    unit = left.diagonal().clone()
    for ridge in _RIDGES:
        left.diagonal().copy_(unit).add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(left)
        if not failed:
            change = torch.cholesky_solve(right.mul_(scale).T, factor).T.mul_(scale)
            return change.add_(mean).float()
    message = f"the Gram matrices of {tensor} are none: their sum is not positive and finite"
    raise BadParameter(message, hint="collect the statistics again")


def _normal_equations(
    weights: Tensors, grams: Tensors, mean: torch.Tensor, gamma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ G_i, (in, in), and Σ (W_i - W̄) G_i, (out, in), with shrunk Grams: float64."""
    left = torch.zeros_like(grams[0], dtype=torch.float64)
    right = torch.zeros_like(mean, dtype=torch.float64)
    for values, gram in zip(weights, grams, strict=True):
        distance = values.double().sub_(mean)
        diagonal = gram.diagonal().double()
        for start in range(0, len(gram), _STRIP):
            strip = slice(start, start + _STRIP)
            part = gram[:, strip].double().mul_(gamma)
            part.diagonal(-start).copy_(diagonal[strip])
            left[:, strip] += part
            right[:, strip] += distance @ part
    return left, right
