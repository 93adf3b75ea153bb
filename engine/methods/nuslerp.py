"""NuSLERP: the arc between two models, or between their task vectors, by weights, whole or row by row.

Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985, doi:10.1145/325165.325242; the weights, the
base and the choice of vectors are mergekit's.
"""

from typing import Literal

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import Tensors, Weight, merge_method, per_model
from engine.ops import BLOCK
from engine.products import column_dots
from engine.sphere import arc, blend, gram, surveyed_gram

_LEAST_SUM = 1e-6
"""A sum of weights closer to 0 than this says nothing of where to go."""

_LEAST_LENGTH = 1e-7
"""mergekit divides by no smaller length."""

_COLUMNS = 1 << 14
"""The most columns worked on at once."""


@merge_method(
    space="weight",
    scope="tensor",
    survey=surveyed_gram,
    whole_when={"nuslerp_flatten": (False,)},
    paper="doi:10.1145/325165.325242",
    n_models=(2, 2),
    compat={"mergekit": {"zero": "orthogonal"}},
    anywhere=True,
)
def nuslerp(
    weights: Tensors,
    *,
    base: torch.Tensor | None = None,
    whole: Floats | None = None,
    weight: Weight = 1.0,
    nuslerp_flatten: bool = True,
    nuslerp_row_wise: bool = False,
    zero: Literal["linear", "orthogonal"] = "linear",
) -> torch.Tensor:
    """Walk along the arc between two models to t = w_2 / (w_1 + w_2).

    W = sin((1-t)Ω)/sin Ω · W_1 + sin(tΩ)/sin Ω · W_2, and linearly where sin Ω is 0. Where there is a base,
    W_i - W_0 takes the place of W_i and W_0 is added in the end. Weights that sum to 0 count as equal. Laws: a
    weight 0 gives the other model; changing places changes nothing.

    Args:
        weights: the two models' tensors, (2, *shape) float32.
        base: the base's tensor, (*shape) float32, or None: the centre is 0.
        whole: the models' dot products, from the survey; None: the tensors are whole.
        weight: of each model; only their ratio matters.
        nuslerp_flatten: one angle for the whole tensor; without it, one for each vector along the last axis.
        nuslerp_row_wise: without ``nuslerp_flatten``, one angle for each vector along the first axis instead, as
            mergekit has it in spite of the name.
        zero: the way to or from a vector that is 0: straight, or as if at a right angle to everything, as in
            mergekit, which takes lengths below 1e-7 for 1e-7.

    Returns:
        The merged tensor, (*shape) float32.
    """
    first, second = per_model(weight, 2)
    total = first + second
    t = 0.5 if abs(total) < _LEAST_SUM else second / total
    if nuslerp_flatten or weights[0].dim() < 2:  # noqa: PLR2004 - vectors and single numbers
        products = gram(weights, base) if whole is None else whole
        a, b, c = (products[i : i + 1, j] for i, j in ((0, 0), (0, 1), (1, 1)))
        one, other = _arcs(a, b, c, t, zero)
        return blend(weights, [float(one[0]), float(other[0])], base)
    merged = torch.empty_like(weights[0], memory_format=torch.contiguous_format)
    tensors = [merged, *weights] if base is None else [merged, *weights, base]
    if nuslerp_row_wise:
        matrices = [tensor.flatten(1) for tensor in tensors]
    else:
        matrices = [tensor.flatten(0, -2).T for tensor in tensors]
    rows, columns = matrices[0].shape
    width = min(_COLUMNS, max(64, BLOCK // max(1, rows)))
    for left in range(0, columns, width):
        out, *parts = (matrix[:, left : left + width] for matrix in matrices)
        _walk(out, parts[:2], parts[2] if parts[2:] else None, t, zero)
    return merged


def _walk(
    out: torch.Tensor, points: Tensors, base: torch.Tensor | None, t: float, zero: str
) -> None:
    """Write the points at ``t`` between the columns of two matrices, (rows, columns), to ``out``."""
    near = points if base is None else [point - base for point in points]
    a, b, c = (dot.numpy() for dot in column_dots(near, [(0, 0), (0, 1), (1, 1)]))
    total = torch.zeros_like(out, dtype=torch.float64)
    for point, share in zip(points, _arcs(a, b, c, t, zero), strict=True):
        part = point.double() if base is None else point.double() - base
        total += part * torch.from_numpy(share)
    out.copy_(total if base is None else total.add_(base))


def _arcs(a: Floats, b: Floats, c: Floats, t: float, zero: str) -> tuple[Floats, Floats]:
    """Coefficients at ``t`` of pairs of vectors with the products a = x·x, b = x·y, c = y·y."""
    lengths = np.sqrt(a), np.sqrt(c)
    none = (lengths[0] == 0) | (lengths[1] == 0) if zero == "linear" else np.zeros(a.shape, bool)
    least = _LEAST_LENGTH if zero == "orthogonal" else 0.0
    u, v = (np.where(none, 1.0, np.maximum(length, least)) for length in lengths)
    return arc(np.clip(b / u / v, -1.0, 1.0), t, zero=none)
