"""Magnitudes of a task vector's entries: their sums, and the rows within which they are compared."""

import math
from typing import Literal

import numpy as np
import torch

from engine.kernels import Floats
from engine.ops import BLOCK, blocks, fold

Per = Literal["tensor", "row"]
"""What is looked at together: a whole tensor, or each of its rows."""


def abs_sum(values: torch.Tensor) -> float:
    """Σ |x| in float64, the same for any number of threads.

    Args:
        values: float32 of any shape.
    """
    return math.fsum(block_sums(values))


def block_sums(values: torch.Tensor) -> list[float]:
    """What `abs_sum` adds up: Σ |x| of each block of `BLOCK` entries; those of slices of blocks are the tensor's."""
    flat = values.reshape(-1)
    return [float(fold(flat[block].double().abs_())) for block in blocks(flat)]


def row_sums(rows: torch.Tensor) -> Floats:
    """Σ |x| of each row, each in an order that depends on its length alone: (rows,) float64.

    Args:
        rows: (rows, columns) float32.
    """
    size, columns = rows.shape
    if columns > BLOCK:
        return np.array([abs_sum(row) for row in rows])
    found = np.zeros(size)
    height = max(1, BLOCK // max(1, columns))
    for top in range(0, size, height):
        part = slice(top, top + height)
        found[part] = fold(rows[part].T.double().abs_()).numpy()
    return found


def as_rows(tensor: torch.Tensor, per: Per) -> torch.Tensor:
    """A tensor as the rows that are looked at together: (rows, columns).

    Rows of a tensor of two and more dimensions are its slices along dim 0, which are the outputs of a linear map;
    vectors and single numbers are one row.
    """
    if per == "tensor" or tensor.dim() < 2 or not tensor.numel():  # noqa: PLR2004 - not a matrix
        return tensor.reshape(1, -1)
    return tensor.reshape(tensor.shape[0], -1)


def columns_of(shape: torch.Size) -> int:
    """How many entries a row of a tensor has, see `as_rows`; 0 for no entries."""
    size = shape.numel()
    return size // shape[0] if size and len(shape) > 1 else size
