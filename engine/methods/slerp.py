"""Slerp: spherical linear interpolation between two models.

Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985, doi:10.1145/325165.325242; applied to weights
as in mergekit and MergeLLM: one angle per tensor, between the tensors as flat vectors.
"""

import math
from typing import Literal

import numpy as np
import torch

from engine.method import Interpolation, Look, Tensors, merge_method
from engine.ops import weighted_sum
from engine.products import SUMMED, block_dots, dots

NEARLY_PARALLEL = 0.9995
"""Beyond this absolute cosine sin Ω is too small to divide by: the path is taken to be straight."""

NO_DIRECTION = 1e-8
"""mergekit takes the direction of a tensor for none if it is no longer than this."""


def angle(look: Look) -> list[float]:
    """The products W_1·W_1, W_1·W_2 and W_2·W_2 of a tensor."""
    found = [sums for _, sums in look(lambda s: block_dots(s.models, _PAIRS, SUMMED))]
    return [math.fsum(column) for column in np.concatenate(found).T]


_PAIRS = [(0, 0), (0, 1), (1, 1)]


@merge_method(
    ends_in_sum=True,
    space="weight",
    scope="tensor",
    survey=angle,
    paper="doi:10.1145/325165.325242",
    n_models=(2, 2),
    compat={"mergekit": {"zero": "orthogonal"}},
)
def slerp(
    weights: Tensors,
    *,
    whole: list[float] | None = None,
    t: Interpolation = 0.5,
    zero: Literal["linear", "orthogonal"] = "linear",
) -> torch.Tensor:
    """Walk from the first model to the second along the arc between them, tensor by tensor.

    W = sin((1-t)Ω)/sin Ω · W_1 + sin(tΩ)/sin Ω · W_2, where Ω is the angle between W_1 and W_2. The tensors keep
    their lengths: only the angle is that of unit vectors. Nearly parallel and nearly opposite tensors are
    interpolated linearly, W = (1-t) W_1 + t W_2, and so is a tensor that is zero in a model: it has no direction.
    Laws: t = 0 gives the first model, t = 1 the second; changing places and t for 1-t changes nothing.

    Args:
        weights: the two models' tensors, (2, *shape) float32.
        whole: products of the whole tensors, from the survey; None: these are whole.
        t: position between them.
        zero: the way to or from a zero tensor: straight, or as if at a right angle to everything, sin(tπ/2) · W_2,
            as in mergekit (where a tensor up to 1e-8 long is zero) and MergeLLM.

    Returns:
        The merged tensor, (*shape) float32.
    """
    first, cross, second = whole or dots(weights, _PAIRS)
    length = math.sqrt(first) * math.sqrt(second)
    right = zero == "orthogonal" and math.sqrt(min(first, second)) <= NO_DIRECTION
    if not right and (length == 0 or abs(cross) > NEARLY_PARALLEL * length):
        return weighted_sum(weights, [1 - t, t])
    angle = math.pi / 2 if right else math.acos(cross / length)
    sine = math.sin(angle)
    return weighted_sum(weights, [math.sin((1 - t) * angle) / sine, math.sin(t * angle) / sine])
