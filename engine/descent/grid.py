"""Grids: entries of a model that lie on few levels, as quantisation leaves them, whatever the model was before.

What is told here is of one model alone, so that of many pairs of models it is worked out but once for each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, once
from engine.descent.pile import Singles

Waves = NDArray[np.complex128]

GRID = 32
"""Entries of one group of a quantised row."""

LEVELS = 16
"""Levels that 4 bits have."""

_ENTRIES = 128  # of a row that are looked at
_ENOUGH = 60  # rows
_FIRST, _COARSE, _FINE = 8.0, 40, 30  # the least step, leaps, and steps of each
_STEP = (60.0 - _FIRST) / (_COARSE * _FINE - 1)


@once
def many_levels(bucket: Bucket, model: int) -> NDArray[np.bool_]:
    """Which groups of 32 entries of a row have more levels than 4 bits: (g,), pile by pile, patch by patch."""
    found = [np.zeros(0, bool)]
    for pile in bucket.piles:
        width = pile.n_columns // GRID * GRID
        groups = pile.of(bucket.values[model])[:, :, :width].reshape(-1, GRID)
        ordered = np.sort(groups, axis=1)
        found.append((ordered[:, 1:] != ordered[:, :-1]).sum(1) + 1 > LEVELS)
    return np.concatenate(found)


@once
def owners(bucket: Bucket) -> NDArray[np.int64]:
    """The place of the matrix each of these groups is of: (g,)."""
    found = [np.zeros(0, np.int64)]
    found += [np.repeat(p.places, p.n_rows * (p.n_columns // GRID)) for p in bucket.piles]
    return np.concatenate(found)


@once
def regularity(bucket: Bucket, model: int, places: tuple[int, ...], most: int = 8) -> float:
    """How near entries of rows are to multiples of the row's best step: the mean over rows of its largest mean cosine.

    Args:
        bucket: all models.
        model: a place in it.
        places: of the patches of matrices that are looked at.
        most: rows of each, at most.

    Returns:
        1 for rows of whole multiples; 0 for no row.
    """
    rows: list[Singles] = []
    for place in places:
        span = bucket.matrices()[place]
        part = bucket.values[model, span.slice].reshape(span.patch.n_rows, span.patch.n_columns)
        # a row of one number tells nothing
        rows += [row for row in part[:most] if len(row) >= GRID and (row != row[0]).any()]
        if len(rows) >= _ENOUGH:
            break
    return float(np.mean(_waves(rows))) if rows else 0.0


def _waves(rows: Sequence[Singles]) -> list[float]:
    """The largest mean cosine of each row with a wave.

    Steps from an eighth to a sixtieth of a row's spread are tried, as grids of 255 values have them; the waves of a
    coarse step and a fine one make those of all, and each of those follows from the one before.
    """
    found: list[float] = []
    for length in sorted({len(row) for row in rows}):
        alike = np.array([row for row in rows if len(row) == length], np.float64)
        turns = 2j * np.pi * alike[:, :_ENTRIES] / alike.std(1, keepdims=True)
        coarse = _powers(np.exp(turns * _FIRST), np.exp(turns * (_STEP * _FINE)), _COARSE)
        fine = _powers(np.ones_like(turns), np.exp(turns * _STEP), _FINE)
        cosines = coarse.real @ fine.real.swapaxes(1, 2) - coarse.imag @ fine.imag.swapaxes(1, 2)
        found += (cosines.max((1, 2)) / turns.shape[1]).tolist()
    return found


def _powers(first: Waves, step: Waves, n: int) -> Waves:
    """A wave, and n - 1 more, each a step further: (r, e) → (r, n, e)."""
    found = np.empty((len(first), n, first.shape[1]), np.complex128)
    found[:, 0] = first
    for i in range(1, n):
        np.multiply(found[:, i - 1], step, out=found[:, i])
    return found
