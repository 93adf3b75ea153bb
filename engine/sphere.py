"""Tensors as points on a sphere: their angles, arcs between them, and sums that keep to it.

A tensor has a length and a direction. Where there is a base it is the centre: lengths and directions are those of
the differences from it, which are made block by block, so that no task vector is ever held whole.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from engine.kernels import Floats
from engine.method import Look, Tensors
from engine.ops import blocks
from engine.products import SUMMED, block_dots

SAME = 1e-7
"""A sine, or the length of a sum of directions, below this is 0: float32 knows no better."""


def gram(points: Tensors, base: torch.Tensor | None = None) -> Floats:
    """Dot products of each two points, as seen from the base: (n, n) float64, symmetric."""
    return square([block_gram(points, base)], len(points))


def surveyed_gram(look: Look, *, centred: bool = True) -> Floats:
    """`gram` of a tensor that is looked at slice by slice; the base is the centre if ``centred``."""
    found = [sums for _, sums in look(lambda s: block_gram(s.models, s.base if centred else None))]
    n_pairs = found[0].shape[1] if found else 0
    return square(found, (math.isqrt(8 * n_pairs + 1) - 1) // 2)


def block_gram(points: Tensors, base: torch.Tensor | None = None) -> Floats:
    """Dot products of each two points in blocks of `SUMMED` entries: (blocks, n (n + 1) / 2), row by row of `gram`."""
    pairs = [(i, j) for i in range(len(points)) for j in range(i, len(points))]
    if base is None:
        return block_dots(points, pairs, SUMMED)
    flat, centre = [point.reshape(-1) for point in points], base.reshape(-1)
    found = [np.zeros((0, len(pairs)))]
    for start in range(0, len(centre), SUMMED):
        here = slice(start, start + SUMMED)
        found.append(block_dots([each[here] - centre[here] for each in flat], pairs, SUMMED))
    return np.concatenate(found)


def square(sums: Sequence[Floats], n: int) -> Floats:
    """The symmetric matrix of what `block_gram` gives for some slices: (n, n)."""
    products = np.zeros((n, n))
    totals = [math.fsum(column) for column in np.concatenate(sums).T]
    products[np.triu_indices(n)] = totals
    return products + np.triu(products, 1).T


def cosines(products: Floats) -> tuple[Floats, Floats]:
    """Lengths (n) and the cosines of the angles between each two (n, n), of what `gram` gives.

    A point of length 0 has no direction: all of its cosines are 0, that with itself too.
    """
    lengths = np.sqrt(np.diag(products))
    length = np.where(lengths > 0, lengths, 1.0)
    return lengths, np.clip(products / length[:, None] / length[None, :], -1.0, 1.0)


def arc(cosine: Floats, t: float, *, zero: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Coefficients of two points at ``t`` of the way between them: sin((1-t)Ω)/sin Ω and sin(tΩ)/sin Ω.

    Args:
        cosine: of each angle Ω.
        t: 0 is the first point, 1 the second; beyond them the arc goes on.
        zero: true where there is no angle; the way is straight there, 1-t and t, as it is where sin Ω is 0.
    """
    sine = np.sqrt(np.maximum(1 - cosine * cosine, 0.0))
    straight = (sine < SAME) | zero
    angle, divisor = np.arccos(cosine), np.where(straight, 1.0, sine)
    first = np.where(straight, 1 - t, np.sin((1 - t) * angle) / divisor)
    return first, np.where(straight, t, np.sin(t * angle) / divisor)


def blend(
    points: Tensors, coefficients: Sequence[float], base: torch.Tensor | None = None
) -> torch.Tensor:
    """Σ c_i x_i as seen from the base, (*shape) float32: in the order given, in float64 up to the one rounding.

    Law: a coefficient 1 among zeros gives that point.
    """
    flat = [point.reshape(-1) for point in points]
    centre = None if base is None else base.reshape(-1)
    blended = torch.empty_like(flat[0])
    for block in blocks(blended):
        origin = None if centre is None else centre[block].double()
        total = torch.zeros_like(blended[block], dtype=torch.float64)
        for values, coefficient in zip(flat, coefficients, strict=True):
            part = values[block].double()
            total += (part if origin is None else part.sub_(origin)).mul_(coefficient)
        blended[block] = total if origin is None else total.add_(origin)
    return blended.reshape(points[0].shape)
