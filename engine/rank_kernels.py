"""The door to the compiled kernels of `pruned.c`, which drop entries by their ranks; the twins are in `engine.pruning`."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine import kernels
from engine.compiler import library
from engine.kernels import Closing, Part, Stored

_LONGEST = 1 << 31
"""Columns that the kernel does not take any more."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """What one model brings to a sum.

    Attributes:
        part: its entries and their factor.
        key: of the stream of random words.
        start: place of the first entry in it.
        least: chance to stay of a row's smallest entry.
        more: how much better that of the largest is.
        by_chance: divide what stays by its chance.
    """

    part: Part
    key: kernels.Key
    start: int
    least: float
    more: float
    by_chance: bool


@dataclass(frozen=True, slots=True)
class Election:
    """How models agree on a sign, and what is made of those that do: see `engine.ops.agreement`."""

    weights: Sequence[float]
    by_count: bool
    winner: int
    normalize: bool
    lambda_: float


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


def combine(
    ranked: Sequence[Ranked], base: Stored | None, out: torch.Tensor, columns: int,
    *, election: Election | None, closing: Closing | None,
) -> bool:  # fmt: skip
    """Drop entries of models by their ranks, and add what stays, or what agrees, to ``out``, row by row.

    Args:
        ranked: of each model, whole rows.
        base: to be taken off; the reference of ``closing``.
        out: float32, contiguous; only closed, and not written, on the meta device.
        columns: entries of a row.
        election: how signs are elected; None: all is added.
        closing: what becomes of the result.

    Returns:
        Whether it was done; False where there is no kernel for that, or anything is not finite or cannot be read.
    """
    parts = [each.part for each in ranked]
    stored = [part.stored for part in parts]
    compiled = library()
    if compiled is None or not kernels.ready(stored) or not 0 < columns < _LONGEST:
        return False
    asked = kernels.merge_of(parts, base, out.numel(), kernels.SUM, columns=columns)
    if election is not None:
        own = np.array(election.weights, dtype=np.float32)
        asked.how, asked.weights = kernels.AGREE, own.ctypes.data
        asked.by_count, asked.winner = election.by_count, election.winner
        asked.normalize, asked.lambda_ = election.normalize, election.lambda_
    terms = kernels.terms_of(parts)
    for term, each in zip(terms, ranked, strict=True):
        term.key, term.start = (ctypes.c_uint64 * 2)(*each.key), each.start
        term.threshold, term.beyond, term.stays_below = each.least, each.more, each.by_chance
    function = compiled.combine_ranked
    function.restype = ctypes.c_int32
    done = function(
        ctypes.byref(asked), terms, ctypes.c_void_p(None if out.is_meta else out.data_ptr()),
        None if closing is None else ctypes.byref(closing.asked),
    )  # fmt: skip
    return bool(done)
