"""The door to the compiled kernel of `statistics.c`: what changed between two tensors, in counts and sums.

`engine.moments` is its twin in torch and numpy, which gives the same bits.
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf

import numpy as np
import numpy.typing as npt

from engine.compiler import library
from engine.histogram import BIN_OF_STEP, N_BINS, N_MOMENTS, Counts, Sums
from engine.kernels import UNREADABLE, Stored, source_of

N_THRESHOLDS = 7
"""How many thresholds the kernel counts by."""

N_BASE = 3
"""Sums that need the base."""

_COUNTERS = 1 << 20
_STEPS = BIN_OF_STEP.astype(np.uint8)
_spare = threading.local()


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was found in a run of elements; δ is what a child has more than its base W0.

    Attributes:
        n: finite elements.
        n_positive, n_negative, n_nonfinite: elements by δ; the last are not among ``n``.
        n_within: how many |δ| are at most each threshold.
        low, high: extremes of δ; +inf and -inf for no elements.
        base_max_abs: max |W0|.
        base: ΣW0², ΣW0·δ, Σ|W0|.
        beyond: Σδ, Σδ², Σδ³, Σδ⁴, Σ|δ|, less those of the smallest numbers of the cells.
        counts: (bins,) int64: δ ≠ 0 by magnitude.
        moments: (5, bins) float64: sums as ``beyond`` of the smallest numbers of the cells.
    """

    n: int
    n_positive: int
    n_negative: int
    n_nonfinite: int
    n_within: tuple[int, ...]
    low: float
    high: float
    base_max_abs: float
    base: tuple[float, ...]
    beyond: tuple[float, ...]
    counts: Counts
    moments: Sums


class _Summary(ctypes.Structure):
    """`summary` of statistics.c."""

    _fields_ = (
        ("n_nonfinite", ctypes.c_int64), ("n_changed", ctypes.c_int64),
        ("n_over", ctypes.c_int64 * N_THRESHOLDS), ("base", ctypes.c_double * N_BASE),
        ("beyond", ctypes.c_double * N_MOMENTS), ("low", ctypes.c_int32), ("high", ctypes.c_int32),
        ("base_most", ctypes.c_uint32), ("bits", ctypes.c_uint32),
        ("thresholds", ctypes.c_uint32 * N_THRESHOLDS),
    )  # fmt: skip


class _Pool(ctypes.Structure):
    """`pool` of statistics.c."""

    _fields_ = (
        ("n_positive", ctypes.c_int64), ("n_negative", ctypes.c_int64),
        ("n_within", ctypes.c_int64 * N_THRESHOLDS), ("largest", ctypes.c_float),
        ("smallest", ctypes.c_float), ("counts", ctypes.c_void_p),
        ("moments", ctypes.c_void_p * N_MOMENTS), ("bin_of_step", ctypes.c_void_p),
    )  # fmt: skip


class CompiledMoments:
    """As `engine.moments.TorchMoments`, for tensors that `engine.kernels.ready` takes."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        bits = np.array(thresholds, np.float32).view(np.uint32).tolist()
        self._counters = _zeros()
        self._summary = _Summary(
            low=_NONE_LOW, high=_NONE_HIGH, thresholds=(ctypes.c_uint32 * N_THRESHOLDS)(*bits)
        )
        self._n = 0

    def add(self, base: Stored, child: Stored) -> bool:
        """Add elements: both (n,) and contiguous, n a multiple of `engine.moments.BLOCK` but for the last.

        Returns:
            Whether they could be read; if not, nothing that was added counts.
        """
        self._n += len(child)
        done = _kernel("summarise")(
            ctypes.byref(source_of(child)), ctypes.byref(source_of(base)), len(child),
            ctypes.byref(self._summary), self._counters.ctypes.data,
        )  # fmt: skip
        return done != UNREADABLE

    def found(self) -> Found:
        """All that was added; may be asked once."""
        counts, moments = np.zeros(N_BINS, np.int64), np.zeros((N_MOMENTS, N_BINS))
        rows = (ctypes.c_void_p * N_MOMENTS)(*(row.ctypes.data for row in moments))
        pool = _Pool(counts=counts.ctypes.data, moments=rows, bin_of_step=_STEPS.ctypes.data)
        s = self._summary
        _kernel("pool_cells")(ctypes.byref(s), self._counters.ctypes.data, ctypes.byref(pool))
        _spare.counters = self._counters
        del self._counters
        n = self._n - s.n_nonfinite
        n_zero = n - s.n_changed
        within = zip(pool.n_within, s.n_over, strict=True)
        zero = [0.0] if n_zero else []
        lows = zero + ([pool.smallest] if pool.n_negative else [])
        highs = zero + ([pool.largest] if pool.n_positive else [])
        lows += [_number(s.low)] if s.low != _NONE_LOW else []
        highs += [_number(s.high)] if s.high != _NONE_HIGH else []
        return Found(
            n=n, n_positive=pool.n_positive, n_negative=pool.n_negative, n_nonfinite=s.n_nonfinite,
            n_within=tuple(n_zero + below - over for below, over in within),
            low=min(lows, default=inf), high=max(highs, default=-inf),
            base_max_abs=float(np.uint32(s.base_most).view(np.float32)), base=tuple(s.base),
            beyond=tuple(s.beyond), counts=counts, moments=moments,
        )  # fmt: skip


def _zeros() -> npt.NDArray[np.uint32]:
    """Counters of all cells, each zero: those this thread used before, where it has some.

    New memory is cleared by the system first, which takes as long as counting in it.
    """
    spare: npt.NDArray[np.uint32] | None = getattr(_spare, "counters", None)
    _spare.counters = None
    return np.zeros(_COUNTERS, np.uint32) if spare is None else spare


_NONE_LOW, _NONE_HIGH = 2**31 - 1, -(2**31)


def _number(key: int) -> float:
    """The float32 of an ordered integer."""
    bits = key ^ 0x7FFFFFFF if key < 0 else key
    return float(np.int32(bits).view(np.float32))


_POINTER = ctypes.c_void_p
_TAKES = {
    "summarise": (_POINTER, _POINTER, ctypes.c_int64, _POINTER, _POINTER),
    "pool_cells": (_POINTER, _POINTER, _POINTER),
}


@cache
def _kernel(name: str) -> Callable[..., int]:
    """A compiled function; asked for only where there are kernels."""
    function: Callable[..., int] = getattr(library(), name)
    function.argtypes, function.restype = _TAKES[name], ctypes.c_int32  # type: ignore[attr-defined] # ctypes
    return function
