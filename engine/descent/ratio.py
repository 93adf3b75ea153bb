"""Ratios: by how much of one change another has, entry by entry, and which of them stand out."""

import numpy as np
from numpy.typing import NDArray

from engine.descent.pile import Floats

_BINS = 400  # over [-4, 4]
_RANGE = 4.0
_NEAR = 12  # bins on each side that a peak is compared with
_LEAST_PEAK = 6
_SHARP = 4.0  # times what its neighbourhood has


def binned(ratios: Floats) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which ratios are not too large, and the bins of those."""
    at = (ratios + _RANGE) / (2 * _RANGE / _BINS)
    inside = (at >= 0) & (at < _BINS)
    return inside, at[inside].astype(np.int64)


def standing_out(ratios: Floats, bins: NDArray[np.int64], of: NDArray[np.int64], n: int) -> Floats:
    """The ratio many of each class have exactly, above 0; 0 where none stands out: (n,).

    Args:
        ratios: none of them too large, (k,).
        bins: theirs, as of `binned`.
        of: their classes, below n.
        n: classes.
    """
    cells = of * _BINS + bins
    counts = np.bincount(cells, minlength=n * _BINS).reshape(n, _BINS)
    below = np.zeros((n, _BINS + 1), np.int64)
    np.cumsum(counts, axis=1, out=below[:, 1:])
    best, rows = counts.argmax(1), np.arange(n)
    low, top = np.maximum(best - 1, 0), np.minimum(best + 2, _BINS)
    first, last = np.maximum(best - _NEAR, 0), np.minimum(best + _NEAR + 1, _BINS)
    peaks = below[rows, top] - below[rows, low]
    usual = 3 * (below[rows, last] - below[rows, first] - peaks) / np.maximum(last - first - 3, 1)
    told = np.flatnonzero(peaks >= np.maximum(_LEAST_PEAK, _SHARP * np.maximum(usual, 1.0)))
    found = np.zeros(n)
    if len(told):
        beside = np.clip(best[told, None] + np.array([-1, 0, 1]), 0, _BINS - 1)
        wanted = np.zeros(n * _BINS, bool)
        wanted[told[:, None] * _BINS + beside] = True
        own = np.flatnonzero(wanted[cells])
        found[told] = np.maximum(0.0, _medians(ratios[own], of[own]))
    return found


def _medians(values: Floats, of: NDArray[np.int64]) -> Floats:
    """The median of each class that has any, in order."""
    ordered = values[np.lexsort((values, of))]
    sizes = np.bincount(of)
    sizes = sizes[sizes > 0]
    starts = np.cumsum(sizes) - sizes
    return np.asarray((ordered[starts + (sizes - 1) // 2] + ordered[starts + sizes // 2]) / 2)
