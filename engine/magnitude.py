"""Magnitudes of a task vector's entries: their sum, and the rows within which they are compared."""

import math
from typing import Literal

import torch

from engine.ops import blocks, fold

Per = Literal["tensor", "row"]
"""What is looked at together: a whole tensor, or each of its rows."""


def abs_sum(values: torch.Tensor) -> float:
    """Σ |x| in float64, the same for any number of threads.

    Args:
        values: float32 of any shape.
    """
    flat = values.reshape(-1)
    return math.fsum(float(fold(flat[block].double().abs_())) for block in blocks(flat.numel()))


def as_rows(tensor: torch.Tensor, per: Per) -> torch.Tensor:
    """A tensor as the rows that are looked at together: (rows, columns).

    Rows of a tensor of two and more dimensions are its slices along dim 0, which are the outputs of a linear map;
    vectors and single numbers are one row.
    """
    if per == "tensor" or tensor.dim() < 2 or not tensor.numel():  # noqa: PLR2004 - not a matrix
        return tensor.reshape(1, -1)
    return tensor.reshape(tensor.shape[0], -1)
