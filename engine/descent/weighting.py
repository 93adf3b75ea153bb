"""Weighting: what a merge can leave of an entry that several parents changed, and how much of a child that explains.

Where one parent's change stays it is there times its scale; where several do, their sum (DARE), their mean (TIES), or their
mean with weights. Those weights are told by the child: between the changes of two parents its own lies at one place.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from engine.descent.pile import Floats

_FIT = 2.5  # times rounding, that a sum may be off
_SLACK = 0.02  # of a change, that its scale may be off
_SHIFTS = (-24.0, -17.0, -12.0, 12.0, 17.0, 24.0)  # times rounding: there only chance explains
_CLEAR = 6.0  # times rounding
_APART = 24.0  # times rounding, that two changes are apart whose weights can be told
_BINS = 100  # of the way from one change to the other
_ENDS = 4  # of those, at either end, that say nothing
_STANDS_OUT = 4.0  # times what most bins have
_LEAST_ENTRIES = 40


def sums_of(scaled: Sequence[Floats]) -> list[Floats]:
    """What may be left of some parents' scaled changes, (e,) each: none, some of them added, and those averaged."""
    sums = [np.zeros_like(scaled[0])]
    for size in range(1, len(scaled) + 1):
        for some in combinations(scaled, size):
            total = np.sum(some, axis=0)
            sums += [total] if size == 1 else [total, total / size]
    return sums


def weighted(moved: Floats, scaled: Sequence[Floats], noise: Floats) -> list[Floats]:
    """Means of some of the changes with the weights that a child shows; none where it shows none.

    Args:
        moved: what the child has changed, (e,).
        scaled: the parents' changes times their scales, (e,) each.
        noise: what rounding may have added, (e,).
    """
    weights = [1.0]
    for other in scaled[1:]:
        share = _share(moved, scaled[0], other, noise)
        if share is None:
            return []
        weights.append((1 - share) / share)
    made = []
    for size in range(2, len(scaled) + 1):
        for some in combinations(range(len(scaled)), size):
            total = np.sum([weights[i] * scaled[i] for i in some], axis=0)
            made.append(total / sum(weights[i] for i in some))
    return made


def _share(moved: Floats, one: Floats, other: Floats, noise: Floats) -> float | None:
    """The weight of the first of two changes in their mean; None where no place between them stands out."""
    both = (np.abs(one) > _CLEAR * noise) & (np.abs(other) > _CLEAR * noise) & (one * other > 0)
    both &= np.abs(one - other) > _APART * noise
    places = (moved[both] - other[both]) / (one[both] - other[both])
    counts, edges = np.histogram(places, _BINS, (0.0, 1.0))
    counts[:_ENDS] = counts[-_ENDS:] = 0
    best = int(np.argmax(counts))
    if counts[best] < max(_LEAST_ENTRIES, _STANDS_OUT * float(np.median(counts))):
        return None
    width = 1 / _BINS
    near = places[(places > edges[best] - width) & (places < edges[best + 1] + width)]
    return float(np.median(near))


def counted(
    moved: Floats, sums: Sequence[Floats], noise: Floats, slack: float = _SLACK
) -> tuple[int, float]:
    """How many entries are one of some sums, and how many would be by chance.

    Args:
        moved: what the child has changed, (e,).
        sums: see `sums_of`.
        noise: what rounding may have added, (e,).
        slack: of a change, that its scale may be off.
    """

    def count(shift: float) -> int:
        near = np.zeros(len(moved), bool)
        for made in sums:
            near |= np.abs(moved + shift * noise - made) <= _FIT * noise + slack * np.abs(made)
        return int(near.sum())

    return count(0.0), float(np.mean([count(x) for x in _SHIFTS]))


def beyond_chance(own: float, chance: float, total: int) -> float:
    """The share of what chance does not explain that is explained: at most 1; 0 where chance explains all."""
    return (own - chance) / (total - chance) if chance < total else 0.0


def certain(moved: Floats, sums: Sequence[Floats], noise: Floats) -> float:
    """The share of the entries that are one of some sums, of what chance does not explain: at most 1."""
    return beyond_chance(*counted(moved, sums, noise), len(moved))
