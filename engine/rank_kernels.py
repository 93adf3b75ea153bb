"""The door to the compiled kernel of `ranks.c`, which drops entries by their ranks; its twin is in `engine.pruning`."""

import ctypes

import torch

from engine import kernels
from engine.compiler import library

_LONGEST = 1 << 31
"""Columns that the kernel does not take any more."""


def drop_by_rank(
    rows: torch.Tensor, key: kernels.Key, start: int, out: torch.Tensor,
    *, least: float, more: float, by_chance: bool,
) -> bool:  # fmt: skip
    """Write to ``out`` what stays of rows in which each entry is dropped by chance, by its rank within its row.

    Args:
        rows: (rows, columns) float32.
        key: of the stream of random words.
        start: place of the first entry in it.
        out: contiguous, of that size and dtype.
        least: chance to stay of a row's smallest entry.
        more: how much better that of the largest is; chances beyond 0 and 1 are these.
        by_chance: divide what stays by its chance.

    Returns:
        Whether it was done; False where there is no kernel that takes these rows.

    Raises:
        MemoryError: there is no room for the ranks of one row.
    """
    taken = rows.dtype == torch.float32 and kernels.ready([rows]) and rows.shape[1] < _LONGEST
    compiled = library() if taken else None
    if compiled is None:
        return False
    function = compiled.drop_by_rank
    function.restype = ctypes.c_int32
    done = function(
        ctypes.c_void_p(rows.data_ptr()), *map(ctypes.c_int64, rows.shape),
        (ctypes.c_uint64 * 2)(*key), ctypes.c_int64(start), ctypes.c_float(least),
        ctypes.c_float(more), ctypes.c_int32(by_chance), ctypes.c_void_p(out.data_ptr()),
    )  # fmt: skip
    if not done:
        message = f"no memory for the ranks of {rows.shape[1]:,} entries"
        raise MemoryError(message)
    return True
