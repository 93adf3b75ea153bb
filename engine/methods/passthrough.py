"""Passthrough: one model's weights, scaled.

Not from a paper: the name and the meaning are those of mergekit's method. It builds models from parts of others.
"""

import torch

from engine.method import Factor, Tensors, merge_method, per_model
from engine.ops import weighted_sum


@merge_method(
    ends_in_sum=True,
    space="weight",
    scope="element",
    paper="mergekit",
    n_models=(1, 1),
    compat={"mergekit": {}},
)
def passthrough(weights: Tensors, *, scale: Factor = 1.0) -> torch.Tensor:
    """Take one model's weights as they are, or scaled.

    W = s W_1. Law: scale 1 gives the same bytes.

    Args:
        weights: the model's tensor, (1, *shape) float32.
        scale: factor on every entry, s.

    Returns:
        The scaled tensor, (*shape) float32.
    """
    return weighted_sum(weights, per_model(scale, 1))
