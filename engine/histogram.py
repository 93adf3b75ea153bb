"""Histogram of magnitudes on logarithmic bins: quantiles and top masses without a sort.

Bin b holds the non-zero magnitudes x with floor(16·log2 x) = b, that is 2^(b/16) <= x < 2^((b+1)/16); each border
is rounded to a multiple of 2⁻¹¹ of its octave, so that an element less than 2⁻¹² (relative) from a border may
lie in the bin beside it. Bins are found from the float32 bit pattern alone, hence the same on every machine.

Numbers are first counted in fine *cells*, by their sign and the upper 19 bits of a float32 (2048 to an octave), which
are pooled into bins at the end. The range is that of float32: bins `LOWEST + 1` to `HIGHEST` hold the normal numbers, bin
`LOWEST` everything between 0 and 2⁻¹²⁶ (subnormals). Zeros are not in the histogram.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

PER_OCTAVE = 16
"""Bins per factor of two: a bin is 4.4 % wide."""

LOWEST = -126 * PER_OCTAVE - 1
"""The bin of all magnitudes in (0, 2⁻¹²⁶)."""

HIGHEST = 128 * PER_OCTAVE - 1
"""The bin of the largest float32."""

N_BINS = HIGHEST - LOWEST + 1
"""Bins from `LOWEST` to `HIGHEST`."""

N_MOMENTS = 5
"""Sums that are kept of every bin: Σx, Σx², Σx³, Σx⁴, Σ|x|."""

SUM, SQUARE, CUBE, FOURTH, ABS = range(N_MOMENTS)
_MANTISSA_BITS = 11
_SHIFT = 23 - _MANTISSA_BITS
_N_CELLS = 1 << (31 - _SHIFT)
_STEPS = 1 << _MANTISSA_BITS
_BORDERS = np.rint(_STEPS * (np.exp2(np.arange(PER_OCTAVE) / PER_OCTAVE) - 1)).astype(np.int64)
BIN_OF_STEP = np.searchsorted(_BORDERS, np.arange(_STEPS), side="right") - 1
"""The bin of each cell within its octave: (2048,)."""

WIDEST = 712_704
"""Most float32 numbers in one bin, but for the lowest."""

_FOLD = 5

Counts = npt.NDArray[np.int64]
Sums = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
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
        at = self._full.start + int(np.searchsorted(self._up_to, rank))
        low, high = float(_EDGES[at]), float(_EDGES[at + 1])
        return 2 * high / (1 + high / low) if low else high / 2

    def top(self, k: float) -> tuple[float, float]:
        """Σ|x| and Σx² of the ``k`` largest magnitudes, k >= 0.

        In the bin that k cuts, and for a k that is no integer, every element counts as the mean of its bin.
        """
        if not len(self._up_to):
            return 0.0, 0.0
        counts = self.counts[self._full][::-1]
        larger = self._up_to[-1] - self._up_to[::-1]
        taken = np.minimum(np.maximum(k - larger, 0), counts)
        share = taken / np.maximum(counts, 1)
        sum_abs, sum_sq = self.sum_abs[self._full], self.sum_sq[self._full]
        return float(share @ sum_abs[::-1]), float(share @ sum_sq[::-1])

    @cached_property
    def _full(self) -> slice:
        """From the first bin that is not empty to the last."""
        full = np.flatnonzero(self.counts)
        return slice(int(full[0]), int(full[-1]) + 1) if len(full) else slice(0, 0)

    @cached_property
    def _up_to(self) -> Counts:
        """How many elements are in each of these bins and those before it."""
        up_to: Counts = np.cumsum(self.counts[self._full])
        return up_to


class Counter:
    """Counts the cells of numbers, block by block; `pooled` tells what was counted so far."""

    def __init__(self) -> None:
        self._counts = np.zeros(2 * _N_CELLS, np.int64)

    def add(self, numbers: npt.NDArray[np.float32], scratch: npt.NDArray[np.int32]) -> None:
        """Count ``numbers``: (n,) contiguous, finite; **overwritten**. ``scratch``: (n,)."""
        bits = numbers.view(np.uint32)
        places = scratch.view(np.uint32)
        np.right_shift(bits, _SHIFT, out=places)
        # Few-digit numbers, such as deltas of bf16 weights, crowd on addresses a power of two apart, which
        # halves the speed of counting; folding the upper bits into the lower ones spreads them.
        np.right_shift(places, _FOLD, out=bits)
        np.bitwise_xor(places, bits, out=places)
        counts = torch.bincount(torch.from_numpy(scratch)).numpy()
        self._counts[: len(counts)] += counts

    def pooled(self, n_zero: int) -> tuple[Counts, Sums]:
        """What was added but ``n_zero`` zeros: counts (n_bins,) and moments (5, n_bins), as `pool`."""
        full = np.flatnonzero(self._counts)
        counts = np.zeros((2, _N_CELLS), np.int64)  # of positive numbers, of negative ones
        counts.reshape(-1)[_unfold(full)] = self._counts[full]
        counts[0, 0] -= n_zero
        return pool(*counts)


def _unfold(folded: Counts) -> Counts:
    """The cells c of the places c ^ (c >> _FOLD)."""
    cells = folded.copy()
    for shift in range(_FOLD, 32 - _SHIFT, _FOLD):
        cells ^= folded >> shift
    return cells


def pool(positive: Counts, negative: Counts) -> tuple[Counts, Sums]:
    """Pool counts of cells into bins, cell by cell in ascending order.

    Args:
        positive: (cells,) int64, how many positive numbers are in each.
        negative: the same of negative numbers.

    Returns:
        Counts (n_bins,) int64, and Σx, Σx², Σx³, Σx⁴, Σ|x| as (5, n_bins) float64, where each number is taken as the
        one in its cell that is nearest to zero.
    """
    cells = np.flatnonzero(positive | negative)
    octave, step = cells >> _MANTISSA_BITS, cells & (_STEPS - 1)
    bins = np.where(octave == 0, 0, PER_OCTAVE * (octave - 1) + BIN_OF_STEP[step] + 1)
    x = (cells << _SHIFT).astype(np.int32).view(np.float32).astype(np.float64)
    xx = x * x
    more, both = (positive - negative)[cells], (positive + negative)[cells]
    weights = (more * x, both * xx, more * (xx * x), both * (xx * xx), both * x)
    moments = np.array([np.bincount(bins, weight, N_BINS) for weight in weights], np.float64)
    return np.bincount(bins, both, N_BINS).astype(np.int64), moments


def histogram(counts: Counts, moments: Sums) -> Histogram:
    """The histogram of what `pool` found: numbers count as the middle of their cells."""
    middle = _MIDDLES
    sum_abs, sum_sq = moments[ABS], moments[SQUARE]
    return Histogram(
        counts,
        sum_abs + middle * counts,
        sum_sq + (2 * middle) * sum_abs + (middle * middle) * counts,
    )


def key_range(place: int) -> tuple[int, int]:
    """The bits of the smallest magnitude of a bin, as a whole number, and those behind its largest.

    Args:
        place: of the bin, 0 for `LOWEST`.
    """
    with np.errstate(over="ignore"):  # behind the largest is infinity
        first, behind = _EDGES[place : place + 2].astype(np.float32).view(np.int32).tolist()
    return first or 1, behind


def _edges() -> Sums:
    """Lower border of each bin, and the upper one of the last: (n_bins + 1,), ascending."""
    octaves = np.exp2(np.arange(-126, 128, dtype=np.float64))
    inner = np.multiply.outer(octaves, 1 + _BORDERS / _STEPS)  # (octaves, bins of one)
    return np.concatenate(([0.0], inner.ravel(), [2.0**128]))


_EDGES = _edges()

_MIDDLES = np.ldexp(
    1.0, np.maximum(np.arange(N_BINS) - 1, 0) // PER_OCTAVE - (126 + _MANTISSA_BITS + 1)
)
"""How far the middle of a cell is from its smallest number, by bin."""

EMPTY = histogram(np.zeros(N_BINS, np.int64), np.zeros((N_MOMENTS, N_BINS)))
"""The histogram of nothing."""
