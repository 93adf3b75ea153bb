"""Multi-SLERP: the weighted mean of directions, at the weighted mean of lengths.

Goddard, "Multi-SLERP: wow what a cool idea", goddard.blog, 2025, and mergekit. There the mean direction is refined
in the plane that touches the sphere at it; that step adds Σ w_i (û_i - (û_i·m̂) m̂) = m - (m·m̂) m̂ = 0, so that
what is below is all of it.
"""

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import Positive, Tensors, Weight, merge_method, per_model
from engine.ops import shares
from engine.sphere import SAME, blend, gram, surveyed_gram


@merge_method(
    space="weight",
    scope="tensor",
    survey=surveyed_gram,
    paper="goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    compat={"mergekit": {}},
    anywhere=True,
)
def multislerp(
    weights: Tensors,
    *,
    base: torch.Tensor | None = None,
    whole: Floats | None = None,
    weight: Weight = 1.0,
    normalize_weights: bool = True,
    eps: Positive = 1e-8,
) -> torch.Tensor:
    """Average directions and lengths apart from each other, tensor by tensor.

    With û_i = W_i / (‖W_i‖ + ε) and m = Σ w_i û_i: W = (Σ w_i ‖W_i‖) m / ‖m‖. Where there is a base, W_i - W_0
    takes the place of W_i and W_0 is added in the end. Directions that cancel out have no mean: the tensor is then
    Σ w_i W_i, as in mergekit for two models (where it raises for more), so that tensors that all equal the base
    give the base. Laws: one model is given back, whatever its weight; the order does not matter, but for rounding.

    Args:
        weights: the models' tensors, (n, *shape) float32, in the recipe's order.
        base: the base's tensor, (*shape) float32, or None: the centre is 0.
        whole: the models' dot products, from the survey; None: the tensors are whole.
        weight: coefficient of each model, w_i.
        normalize_weights: divide the w_i by their sum.
        eps: added to lengths that divide, and the least ‖m‖ that is a direction, ε.

    Returns:
        The merged tensor, (*shape) float32.

    Raises:
        BadParameter: if Σ w_i = 0 and ``normalize_weights``.
    """
    own = per_model(weight, len(weights))
    share = np.array(shares(own) if normalize_weights else own)
    if len(weights) == 1:
        return weights[0].clone()
    products = gram(weights, base) if whole is None else whole
    lengths = np.sqrt(np.diag(products))
    divisors = lengths + eps
    units = np.divide(share, divisors, out=np.zeros_like(share), where=divisors > 0)
    size = np.sqrt(max(0.0, np.sum(units[:, None] * products * units[None, :])))
    if size <= max(eps, SAME * float(np.sum(np.abs(share)))):
        return blend(weights, share.tolist(), base)
    return blend(weights, (np.sum(share * lengths) / size * units).tolist(), base)
