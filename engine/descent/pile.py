"""Piles: patches of one shape, one on top of the other, so that one call works on all of them.

A model has a hundred patches of a few hundred scalars each, and few shapes among them. What is worked out patch by patch
costs more in calls than in arithmetic.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.descent.patch import Patch

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Pile:
    """m patches of r rows and c columns.

    Attributes:
        places: of each among the matrices of its bucket, in order: (m,).
        index: of each entry among all scalars: (m, r, c).
        shares: entries that each scalar of a patch stands for: (m,).
    """

    places: NDArray[np.int64]
    index: NDArray[np.int64]
    shares: Floats

    @property
    def n_rows(self) -> int:
        """Rows of each patch."""
        return int(self.index.shape[1])

    @property
    def n_columns(self) -> int:
        """Columns of each patch."""
        return int(self.index.shape[2])

    @property
    def least(self) -> int:
        """Rows or columns, whatever is fewer."""
        return min(self.n_rows, self.n_columns)

    def of(self, values: Singles) -> Singles:
        """The entries of models' patches: (..., s) → (..., m, r, c)."""
        return values[..., self.index]

    def wide(self, values: Singles) -> Singles:
        """The same with the shorter side for rows."""
        found = self.of(values)
        return found if self.n_rows <= self.n_columns else found.swapaxes(-1, -2)

    def some(self, kept: NDArray[np.bool_]) -> "Pile":
        """Those of its patches that are kept, (m,)."""
        return Pile(self.places[kept], self.index[kept], self.shares[kept])

    def split(self, most: int) -> Iterator["Pile"]:
        """The same patches in parts of so many entries, about."""
        n = max(1, most // max(1, self.n_rows * self.n_columns))
        for at in range(0, len(self.places), n):
            part = slice(at, at + n)
            yield Pile(self.places[part], self.index[part], self.shares[part])


def piled(patches: Sequence[tuple[Patch, int]]) -> tuple[Pile, ...]:
    """Patches by shape, in the order of their first.

    Args:
        patches: each with the place of its first entry among all scalars.
    """
    shapes: dict[tuple[int, int], list[int]] = {}
    for place, (patch, _) in enumerate(patches):
        shapes.setdefault((patch.n_rows, patch.n_columns), []).append(place)
    return tuple(
        Pile(
            np.array(places, np.int64),
            np.array([patches[i][1] for i in places], np.int64)[:, None, None]
            + np.arange(rows * columns).reshape(rows, columns),
            np.array([patches[i][0].share for i in places]),
        )
        for (rows, columns), places in shapes.items()
    )
