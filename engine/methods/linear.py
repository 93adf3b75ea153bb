"""Linear: the weighted mean of the models' weights.

Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time", ICML 2022. arXiv:2203.05482
"""

import torch

from engine.method import Tensors, Weight, merge_method, per_model
from engine.ops import shares, weighted_sum


@merge_method(
    ends_in_sum=True, space="weight", scope="element", paper="2203.05482", compat={"mergekit": {}}
)
def linear(weights: Tensors, *, weight: Weight = 1.0, normalize: bool = True) -> torch.Tensor:
    """Average the models' weights; each model has a coefficient.

    W = Σ w_i W_i / Σ w_i. Laws: one model, or n copies of it, give that model; the order does not matter, but for
    rounding.

    Args:
        weights: the models' tensors, (n, *shape) float32, in the recipe's order.
        weight: coefficient of each model, w_i.
        normalize: divide by Σ w_i; without it, the sum is taken as it is.

    Returns:
        The merged tensor, (*shape) float32.

    Raises:
        BadParameter: if Σ w_i = 0 and ``normalize``.
    """
    coefficients = per_model(weight, len(weights))
    return weighted_sum(weights, shares(coefficients) if normalize else coefficients)
