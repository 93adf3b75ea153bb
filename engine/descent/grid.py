"""Grids: entries of a model that lie on few levels, as quantisation leaves them, whatever the model was before.

What is told here is of one model alone, so that of many pairs of models it is worked out but once for each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, once

GRID = 32
"""Entries of one group of a quantised row."""

LEVELS = 16
"""Levels that 4 bits have."""

_ENTRIES = 128  # of a row that are looked at
_ENOUGH = 60  # rows
_STEPS = np.linspace(8.0, 60.0, 1200)
_COARSE, _FINE = _STEPS[::30], _STEPS[:30] - _STEPS[0]


@once
def many_levels(bucket: Bucket, model: int) -> tuple[NDArray[np.bool_], ...]:
    """Of each matrix's patch, which groups of 32 entries of a row have more levels than 4 bits: (n,) each."""
    found = []
    for span in bucket.matrices():
        width = span.patch.n_columns // GRID * GRID
        rows = bucket.values[model, span.slice].reshape(span.patch.n_rows, span.patch.n_columns)
        ordered = np.sort(rows[:, :width].reshape(-1, GRID), axis=1)
        found.append((ordered[:, 1:] != ordered[:, :-1]).sum(1) + 1 > LEVELS)
    return tuple(found)


def regularity(bucket: Bucket, model: int, places: Sequence[int], most: int = 8) -> float:
    """How near entries of rows are to multiples of the row's best step: the mean over rows of its largest mean cosine.

    Args:
        bucket: all models.
        model: a place in it.
        places: of the patches of matrices that are looked at.
        most: rows of each, at most.

    Returns:
        1 for rows of whole multiples; 0 for no row.
    """
    found: list[float] = []
    for place in places:
        found += [wave for wave in _waves(bucket, model, place, most) if wave is not None]
        if len(found) >= _ENOUGH:
            break
    return float(np.mean(found)) if found else 0.0


@once
def _waves(bucket: Bucket, model: int, place: int, most: int) -> tuple[float | None, ...]:
    """The largest mean cosine of each of a patch's first rows with a wave; None for rows that tell nothing.

    Steps from an eighth to a sixtieth of a row's spread are tried, as grids of 255 values have them; the waves of a
    coarse step and a fine one make those of all.
    """
    span = bucket.matrices()[place]
    part = bucket.values[model, span.slice].astype(np.float64)
    found: list[float | None] = []
    for row in part.reshape(span.patch.n_rows, span.patch.n_columns)[:most]:
        spread = float(row.std())
        if spread == 0 or len(row) < GRID:
            found.append(None)
            continue
        scaled = row[:_ENTRIES] / spread
        coarse, fine = (np.exp(2j * np.pi * np.outer(steps, scaled)) for steps in (_COARSE, _FINE))
        found.append(float(((coarse @ fine.T).real / len(scaled)).max()))
    return tuple(found)
