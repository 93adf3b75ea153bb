"""Dot products of models: of whole tensors, of blocks, of rows and of columns, each in one order of summation.

Products of two float32 numbers are exact in float64. Sums over entries have `engine.kernels.LANES` partial sums in each
block, and blocks are added up exactly, so that slices of whole blocks give what the tensor gives.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from engine import kernels, product_kernels
from engine.kernels import Floats
from engine.lanes import laned, row_by_row
from engine.method import Tensors
from engine.slices import Slices, is_done, parts_of, shape_of, stored_of

SUMMED = 1 << 16
"""Entries of which dot products are taken at once; they decide the order of summation."""

SLAB = 64
"""Rows that sums over columns take at once, at most; they decide the order of summation."""

_SLAB_SIZE = 1 << 19  # entries of a slab at most, if it has more than one row
_STRIP = 1 << 10  # columns that torch sums at once


def slab_height(columns: int) -> int:
    """Rows of a slab: fewer than `SLAB` where there are so many columns that those would take much memory."""
    return max(1, min(SLAB, _SLAB_SIZE // max(1, columns)))


def column_dots(matrices: Tensors, pairs: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
    """Dot products of columns: for each pair (i, j), Σ_rows m_i ⊙ m_j as (columns,) float64.

    Rows are summed one after the other within slabs of `slab_height` rows, and the slabs in their order. Law: a
    column's result depends on that column alone, and on the height of slabs, which is `SLAB` up to 8,192 columns.

    Args:
        matrices: (rows, columns) float32 of one shape; a product of two entries is exact in float64.
        pairs: which matrices to multiply; a number beyond the last is the base of `Slices`.
    """
    totals = np.zeros((len(pairs), _height_and_width(matrices)[1]))
    for found in slab_dots(matrices, pairs):
        totals += found
    return list(torch.from_numpy(totals))


def slab_dots(matrices: Tensors, pairs: Sequence[tuple[int, int]]) -> Iterator[Floats]:
    """What `column_dots` adds up: of each slab, in order, (pairs, columns) float64."""
    rows, columns = _height_and_width(matrices)
    stored, base = stored_of(matrices) if _is_contiguous(matrices) else ([], None)
    height = slab_height(columns)
    for top in range(0, rows, height):
        done = False
        if kernels.ready(stored):
            here = slice(top * columns, min(top + height, rows) * columns)
            found, bad = product_kernels.column_products(
                [s[here] for s in stored], None if base is None else base[here], pairs,
                rows=min(height, rows - top), columns=columns,
            )  # fmt: skip
            done = is_done(matrices, bad)
        if not done:
            found = np.zeros((len(pairs), columns))
            for left in range(0, columns, _STRIP):
                place = (slice(top, top + height), slice(left, left + _STRIP))
                parts = [m.flatten(1)[place].double().numpy() for m in _with_base(matrices)]
                for total, (i, j) in zip(found, pairs, strict=True):
                    total[left : left + _STRIP] = row_by_row(parts[i] * parts[j])
        yield found


def dots(tensors: Tensors, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Dot products of whole tensors: for each pair (i, j), Σ x_i ⊙ x_j; pairs as in `column_dots`."""
    return [math.fsum(column) for column in block_dots(tensors, pairs, SUMMED).T]


def row_dots(matrices: Tensors, pairs: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
    """Dot products of rows: for each pair (i, j), (rows,) float64; otherwise as `column_dots`."""
    columns = shape_of(matrices)[1]
    if not columns:
        return [torch.zeros(shape_of(matrices)[0], dtype=torch.float64) for _ in pairs]
    found = block_dots(matrices, pairs, columns)
    return list(torch.from_numpy(np.ascontiguousarray(found.T)))


def block_dots(tensors: Tensors, pairs: Sequence[tuple[int, int]], block: int) -> Floats:
    """Dot products of each ``block`` entries of flat tensors: (blocks, pairs) float64, over `engine.kernels.LANES` partial sums.

    Law: those of slices of whole blocks are those of the tensors.
    """
    stored, base = parts_of(tensors)
    if kernels.ready(stored):
        found, bad = product_kernels.products(stored, base, pairs, block=block)
        if is_done(tensors, bad):
            return found
    flats = [tensor.reshape(-1).numpy() for tensor in _with_base(tensors)]
    size = len(flats[0])
    found = np.zeros((-(-size // block), len(pairs)))
    for row, start in zip(found, range(0, size, block), strict=True):
        parts = [flat[start : start + block].astype(np.float64) for flat in flats]
        row[:] = [laned(parts[i] * parts[j]) for i, j in pairs]
    return found


def _height_and_width(matrices: Tensors) -> tuple[int, int]:
    """Rows and columns of tensors whose slices along dim 0 are the rows."""
    rows, *others = shape_of(matrices)
    return rows, math.prod(others)


def _is_contiguous(tensors: Tensors) -> bool:
    """Tell whether kernels can read these tensors where they are."""
    return isinstance(tensors, Slices) or all(tensor.is_contiguous() for tensor in tensors)


def _with_base(tensors: Tensors) -> list[torch.Tensor]:
    """The models in float32, and the base of slices behind them."""
    if isinstance(tensors, Slices) and tensors.base is not None:
        return [*tensors, tensors.base.float().reshape(tensors.shape)]
    return list(tensors)
