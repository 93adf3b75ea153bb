"""Slerp: spherical linear interpolation between two models.

Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985, doi:10.1145/325165.325242; applied to weights
as in mergekit and MergeLLM: one angle per tensor, between the tensors as flat vectors.
"""

import math

import torch

from engine.method import Interpolation, Tensors, merge_method
from engine.ops import dots, weighted_sum

NEARLY_PARALLEL = 0.9995
"""Beyond this absolute cosine sin Ω is too small to divide by: the path is taken to be straight."""


@merge_method(space="weight", scope="tensor", paper="doi:10.1145/325165.325242", n_models=(2, 2))
def slerp(weights: Tensors, *, t: Interpolation = 0.5) -> torch.Tensor:
    """Walk from the first model to the second along the arc between them, tensor by tensor.

    W = sin((1-t)Ω)/sin Ω · W_1 + sin(tΩ)/sin Ω · W_2, where Ω is the angle between W_1 and W_2. The tensors keep
    their lengths: only the angle is that of unit vectors. Nearly parallel and nearly opposite tensors are
    interpolated linearly, W = (1-t) W_1 + t W_2, and so is a tensor that is zero in a model: it has no direction.
    (MergeLLM and mergekit take it to be at a right angle to everything and return sin(tπ/2) · W_2.)
    Laws: t = 0 gives the first model, t = 1 the second; changing places and t for 1-t changes nothing.

    Args:
        weights: the two models' tensors, (2, *shape) float32.
        t: position between them.

    Returns:
        The merged tensor, (*shape) float32.
    """
    first, cross, second = dots(weights, [(0, 0), (0, 1), (1, 1)])
    length = math.sqrt(first) * math.sqrt(second)
    if length == 0 or abs(cross) > NEARLY_PARALLEL * length:
        return weighted_sum(weights, [1 - t, t])
    angle = math.acos(cross / length)
    sine = math.sin(angle)
    return weighted_sum(weights, [math.sin((1 - t) * angle) / sine, math.sin(t * angle) / sine])
