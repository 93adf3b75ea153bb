"""Histogram of magnitudes on logarithmic bins: quantiles and top masses without a sort.

Bin b holds the non-zero magnitudes x with floor(16·log2 x) = b, that is 2^(b/16) <= x < 2^((b+1)/16); each border
is rounded to a multiple of 2⁻¹¹ of its octave, so that an element less than 2⁻¹² (relative) from a border may
lie in the bin beside it. Bins are found from the float32 bit pattern alone, hence the same on every machine.

Magnitudes are first counted on fine *cells*, the upper 19 bits of a float32 (2048 to an octave), which are pooled
into bins at the end. The range is that of float32: bins `LOWEST + 1` to `HIGHEST` hold the normal numbers, bin
`LOWEST` everything between 0 and 2⁻¹²⁶ (subnormals). Zeros are not in the histogram.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

PER_OCTAVE = 16
"""Bins per factor of two: a bin is 4.4 % wide."""

LOWEST = -126 * PER_OCTAVE - 1
"""The bin of all magnitudes in (0, 2⁻¹²⁶)."""

HIGHEST = 128 * PER_OCTAVE - 1
"""The bin of the largest float32."""

_N_BINS = HIGHEST - LOWEST + 1
_MANTISSA_BITS = 11
_SHIFT = 23 - _MANTISSA_BITS
_N_CELLS = 1 << (31 - _SHIFT)
_STEPS = 1 << _MANTISSA_BITS
_BORDERS = np.rint(_STEPS * (np.exp2(np.arange(PER_OCTAVE) / PER_OCTAVE) - 1)).astype(np.int64)
_BIN_OF_STEP = np.searchsorted(_BORDERS, np.arange(_STEPS), side="right") - 1
_FOLD = 5

Counts = npt.NDArray[np.int64]
Sums = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts and sums of non-zero magnitudes per bin.

    Law: the histogram of two sets together is the sum of their histograms (counts exactly).

    Attributes:
        counts: (n_bins,) int64, elements per bin, in the order of the bins from `LOWEST`.
        sum_abs: (n_bins,) float64, Σ|x| per bin, each element taken as the middle of its cell (within 2⁻¹²).
        sum_sq: (n_bins,) float64, Σx² per bin, likewise (within 2⁻¹¹).
    """

    counts: Counts
    sum_abs: Sums
    sum_sq: Sums

    def __add__(self, other: "Histogram") -> "Histogram":
        if self is EMPTY:
            return other
        if other is EMPTY:
            return self
        return Histogram(
            self.counts + other.counts, self.sum_abs + other.sum_abs, self.sum_sq + other.sum_sq
        )

    def rows(self) -> tuple[Counts, Counts, Sums, Sums]:
        """The non-empty bins, ascending: bin numbers, counts, Σ|x|, Σx²."""
        full = np.flatnonzero(self.counts)
        return full + LOWEST, self.counts[full], self.sum_abs[full], self.sum_sq[full]

    def value(self, rank: int) -> float:
        """The ``rank``-th smallest magnitude, 1 <= rank <= the number of elements, within ±2.2 % relative.

        It is the harmonic mean of its bin's borders, the value whose largest relative error is least. In the bin
        of subnormals, half the bin's upper border.
        """
        at = int(np.searchsorted(np.cumsum(self.counts), rank))
        low, high = float(_EDGES[at]), float(_EDGES[at + 1])
        return 2 * high / (1 + high / low) if low else high / 2

    def top(self, k: float) -> tuple[float, float]:
        """Σ|x| and Σx² of the ``k`` largest magnitudes, k >= 0.

        In the bin that k cuts, and for a k that is no integer, every element counts as the mean of its bin.
        """
        counts = self.counts[::-1]
        taken = np.clip(k - (np.cumsum(counts) - counts), 0, counts)
        share = taken / np.maximum(counts, 1)
        return float(share @ self.sum_abs[::-1]), float(share @ self.sum_sq[::-1])


class Counter:
    """Counts the cells of magnitudes, block by block; `histogram` pools what was counted so far."""

    def __init__(self) -> None:
        self._counts = np.zeros(_N_CELLS, np.int64)
        self._end = 1

    def add(self, magnitudes: npt.NDArray[np.float32], scratch: npt.NDArray[np.int32]) -> None:
        """Count ``magnitudes``: (n,) contiguous, finite, >= 0; **overwritten**. ``scratch``: (n,)."""
        bits = magnitudes.view(np.int32)
        np.right_shift(bits, _SHIFT, out=scratch)
        # Few-digit numbers, such as deltas of bf16 weights, crowd on addresses a power of two apart, which
        # halves the speed of counting; folding the upper bits into the lower ones spreads them.
        np.right_shift(scratch, _FOLD, out=bits)
        np.bitwise_xor(scratch, bits, out=scratch)
        counts = torch.bincount(torch.from_numpy(scratch)).numpy()
        self._counts[: len(counts)] += counts
        self._end = max(self._end, len(counts))

    def histogram(self, n_zero: int) -> Histogram:
        """The histogram of all that was added but ``n_zero`` zeros."""
        full = np.flatnonzero(self._counts[: self._end] != 0)
        counts = self._counts[full]
        if n_zero:
            counts[0] -= n_zero  # they are in the first cell
        return _pool(_unfold(full), counts)


def _unfold(folded: Counts) -> Counts:
    """The cells c of the places c ^ (c >> _FOLD)."""
    cells = folded.copy()
    for shift in range(_FOLD, 31 - _SHIFT, _FOLD):
        cells ^= folded >> shift
    return cells


def _pool(cells: Counts, counts: Counts) -> Histogram:
    """Pool counts of cells, in any order, into bins."""
    octave, step = cells >> _MANTISSA_BITS, cells & (_STEPS - 1)
    bins = np.where(octave == 0, 0, PER_OCTAVE * (octave - 1) + _BIN_OF_STEP[step] + 1)
    middle = (cells << _SHIFT | 1 << (_SHIFT - 1)).astype(np.int32).view(np.float32)
    values = middle.astype(np.float64)

    def pool(weights: npt.NDArray[Any]) -> Sums:
        return np.bincount(bins, weights, _N_BINS).astype(np.float64)

    return Histogram(
        pool(counts).astype(np.int64), pool(counts * values), pool(counts * values * values)
    )


def _edges() -> Sums:
    """Lower border of each bin, and the upper one of the last: (n_bins + 1,), ascending."""
    octaves = np.exp2(np.arange(-126, 128, dtype=np.float64))
    inner = np.multiply.outer(octaves, 1 + _BORDERS / _STEPS)  # (octaves, bins of one)
    return np.concatenate(([0.0], inner.ravel(), [2.0**128]))


_EDGES = _edges()

EMPTY = _pool(np.zeros(0, np.int64), np.zeros(0, np.int64))
"""The histogram of nothing."""
