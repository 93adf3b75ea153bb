"""Spreads: how the magnitudes of a model's entries are distributed, as somebody has measured before, or by a sample.

They only tell where to look first: whoever asks finds the same answer by a wrong one, only later. The bits of a float32
magnitude, as a whole number, are its key: keys sort as the magnitudes do.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.histogram import LOWEST, N_BINS, Counts, key_range
from engine.method import Look, Seen, T

Keys = NDArray[np.int32]

_LAST = (1 << 31) - 1  # key, of a NaN
_MARGIN = 0.002  # of all entries, by which a sample may be off


@dataclass(frozen=True, eq=False)
class Spread:
    """The magnitudes of one task vector.

    Attributes:
        n: its entries.
        counts: (n_bins,) int64, how many of them are in each bin of a histogram, as `engine.histogram` has them; zeros are in none.
    """

    n: int
    counts: Counts

    def near(
        self, count: Callable[[int], int], *, changed: bool, widest: int
    ) -> tuple[int, int, int]:
        """Among which keys the smallest of the largest entries must be.

        Args:
            count: from the number of entries to how many are asked for.
            changed: it takes the number of those that are not 0.
            widest: most keys that are told.

        Returns:
            The first key, how many, and the likeliest.
        """
        up_to = self.counts.cumsum()
        zeros = self.n - int(up_to[-1])
        place = self.n - count(self.n - zeros * changed) - zeros
        if not 0 <= place < up_to[-1]:
            return 0, 1, 0
        first, behind = key_range(int(np.searchsorted(up_to, place, side="right")))
        guess, width = (first + behind) // 2, min(behind - first, widest)
        return max(first, guess - width // 2), width, guess


@dataclass(frozen=True, eq=False)
class Sample:
    """Some of the entries of a model.

    Attributes:
        keys: (n,) of their magnitudes.
    """

    keys: Keys

    def near(
        self, count: Callable[[int], int], *, changed: bool, widest: int
    ) -> tuple[int, int, int]:
        """Among which keys the smallest of the largest entries must be, all but surely; as `Spread.near`."""
        size = len(self.keys)
        n = count(size - changed * int(np.count_nonzero(self.keys == 0)))
        margin = int(_MARGIN * size + 4 * math.sqrt(size))
        places = [min(max(0, size - n + by), max(0, size - 1)) for by in (-margin, 0, margin)]
        if not size:
            return 0, 1, 0
        least, guess, most = np.partition(self.keys, places)[places].tolist()
        low = max(least, guess - widest // 2)
        return low, min(most - low + 1, widest, _LAST - low), guess


def spread(n: int, bins: Mapping[int, int]) -> Spread:
    """The spread of ``n`` entries, from the numbers of those in each bin."""
    counts = np.zeros(N_BINS, np.int64)
    for number, count in bins.items():
        counts[number - LOWEST] = count
    return Spread(n, counts)


@dataclass(frozen=True)
class Informed:
    """A look at models of which it is known how they are spread.

    Attributes:
        look: at every slice.
        spreads: of each model.
    """

    look: Look
    spreads: tuple[Spread, ...]

    def __call__(
        self, measure: Callable[[Seen], T], /, *, sample: int = 0
    ) -> Iterator[tuple[str, T]]:
        """As the look itself."""
        return self.look(measure, sample=sample)
