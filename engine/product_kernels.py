"""The door to the compiled kernels of `sums.c`: dot products of models; their twins are in `engine.products`."""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch

from engine.kernels import Floats, Part, Stored, Varied, call, source_of, tensor_of, terms_of


def products(
    stored: Sequence[Stored], base: Stored | None, pairs: Sequence[tuple[int, int]],
    *, block: int, among: Varied | None = None,
) -> tuple[Floats, int]:  # fmt: skip
    """Dot products of models, or of their task vectors, block by block.

    Args:
        stored: (d,) each.
        base: to be taken off.
        pairs: which to multiply; number n is the base.
        block: entries that are summed up.
        among: which entries count; the others are 0.

    Returns:
        (blocks, pairs); and as `engine.kernels.weighted_sum`.
    """
    n = len(stored[0])
    made = np.zeros((-(-n // block), len(pairs)))
    asked = np.array(pairs, dtype=np.int32)
    bad = call(
        "products", terms_of([Part(s, 1.0) for s in stored]), len(stored),
        None if base is None else ctypes.byref(source_of(base)),
        None if among is None else ctypes.byref(among), n, block, asked.ctypes.data, len(pairs),
        made.ctypes.data,
    )  # fmt: skip
    return made, bad


def column_products(
    stored: Sequence[torch.Tensor], base: torch.Tensor | None, pairs: Sequence[tuple[int, int]],
    *, rows: int, columns: int,
) -> tuple[Floats, int]:  # fmt: skip
    """Dot products of columns, summed row by row: (pairs, columns); otherwise as `products`."""
    made = np.zeros((len(pairs), columns))
    asked = np.array(pairs, dtype=np.int32)
    bad = call(
        "column_products", terms_of([Part(s, 1.0) for s in stored]), len(stored), *tensor_of(base),
        rows, columns, asked.ctypes.data, len(pairs), made.ctypes.data,
    )  # fmt: skip
    return made, bad
