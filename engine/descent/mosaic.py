"""Mosaics: models whose entries are one parent's or another's, the base of both being away.

TIES, and DARE where its weights undo its scale, leave the entries of which only one parent's change stays as that
parent has them. So where two parents are far apart the child often is one of them exactly, and as often the other; chance
gives no more of this than of being one step of rounding off. Siblings that changed little, and a parent seen from its
children, look alike at first, but there it is the other model that has moved away from all that are related, while of a
mosaic it is the one whose entry was taken. What is neither parent's, nor their mean, is the base's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, rounding_energy, searched
from engine.descent.direction import direction
from engine.descent.frozen import frozen
from engine.descent.pile import Floats

_NEAREST = 16
_FAR = 12.0  # ulps, that two parents are apart where it counts which of them a child has
_LEAST_ENTRIES = 200
_TAKEN = 0.08  # of the entries where parents are far apart, that each gave alone, beyond chance
_Z = 8.0  # standard deviations of chance
_MOVED = 0.35  # of the entries taken, in which the parent is the one that is further from others
_EXPLAINED = 0.35  # of the entries where parents are far apart
_LEFT = 0.04  # of all entries, that are the base's
_MEAN = 0.1  # of the entries where parents are near each other and the child has neither's, beyond chance
_CLEARLY = 0.25


@dataclass(frozen=True)
class Mosaic:
    """A model that has some entries of one parent and some of another, as they are.

    Attributes:
        child: its place in the bucket.
        parents: places, by share, larger first.
        shares: of the entries where they are far apart, those each gave, beyond chance.
        z: of the smaller, standard deviations of chance.
        rest: entries that are neither's nor their mean: the base's, where ``averaged``; (s,) bool.
        averaged: where both gave, the child has the mean of their entries, as TIES has it.
    """

    child: int
    parents: tuple[int, int]
    shares: tuple[float, float]
    z: float
    rest: NDArray[np.bool_]
    averaged: bool

    @property
    def base(self) -> None:
        """Nobody has it."""
        return


@searched(_NEAREST)
def mosaic(bucket: Bucket, child: int, near: list[int]) -> Mosaic | None:
    """The two parents that gave a child its entries; None where no two did.

    Args:
        bucket: all models.
        child: a place in it.
        near: places of those it may be made of, and of others they are related to; the nearest of some.
    """
    counted = bucket.counts > 0
    stored = bucket.values[child, counted]
    own, ulp = (
        stored.astype(np.float64),
        np.sqrt(12 * rounding_energy(stored, bucket.dtypes[child])),
    )
    values = {i: bucket.values[i, counted].astype(np.float64) for i in near}
    same = {i: v == own for i, v in values.items()}
    fit = [i for i in near if same[i].mean() >= _TAKEN / 2]
    whole = {i: frozen(bucket, child, i)[counted] for i in fit}
    found = []
    for a, b in combinations(sorted(fit), 2):
        made = _taken(child, {p: values[p] for p in (a, b)}, own, ulp, whole[a] | whole[b])
        if made is None:
            continue
        others = [values[i] for i in near if i not in (a, b)]
        if others and not _moved(own, values[a], values[b], others):
            continue
        if not others and all(direction(bucket, child, p) > _CLEARLY for p in (a, b)):
            continue
        found.append(made)
    if not found:
        return None
    best = max(found, key=lambda m: (sum(m.shares), [-p for p in m.parents]))
    rest = np.zeros(len(counted), bool)
    rest[counted] = best.rest
    return Mosaic(best.child, best.parents, best.shares, best.z, rest, best.averaged)


def _taken(
    child: int, parents: dict[int, Floats], own: Floats, ulp: Floats, whole: NDArray[np.bool_]
) -> Mosaic | None:
    """A mosaic of two, if a child's entries are but those of tensors that are wholly one's; its rest is of the counted entries."""
    a, b = parents.values()
    apart = np.abs(a - b) / np.maximum(ulp, 1e-300)
    far = (apart >= _FAR) & (ulp > 0) & ~whole
    n = int(far.sum())
    if n < _LEAST_ENTRIES or any(
        np.count_nonzero((own == one) & far) < _TAKEN * n for one in (a, b)
    ):  # fewer than that beyond chance
        return None
    shares, scores = [], []
    for one in (a, b):
        off = np.abs(own[far] - one[far]) / ulp[far]
        taken = int((off == 0).sum())
        chance = float(((off > _OFF) & (off < _BESIDE)).sum()) / (2 * (_BESIDE - _OFF))
        shares.append((taken - chance) / n)
        scores.append((taken - chance) / np.sqrt(max(1.0, chance)))
    if min(shares) < _TAKEN or min(scores) < _Z or sum(shares) < _EXPLAINED:
        return None
    middle = (a + b) / 2
    neither = (own != a) & (own != b) & (ulp > 0)
    off = np.abs(own - middle) / np.maximum(ulp, 1e-300)
    mean = neither & (off <= _HALF)
    clear = neither & (apart >= _FAR / 2)
    beside = clear & (off > 1) & (off <= 1 + 2 * _HALF)
    excess = int((mean & clear).sum()) - int(beside.sum()) / 2
    averaged = excess > _MEAN * int(clear.sum()) and excess > _Z * np.sqrt(beside.sum() / 2 + 1)
    rest = neither & ~mean
    (most, larger), (less, smaller) = sorted(zip(shares, parents, strict=True), key=lambda s: -s[0])
    return Mosaic(
        child, (larger, smaller), (most, less),
        float(min(scores)), rest, bool(averaged),
    )  # fmt: skip


_OFF, _BESIDE = 0.5, 4.5  # ulps: four steps on each side tell what chance gives
_HALF = 0.52


def _moved(own: Floats, a: Floats, b: Floats, others: Sequence[Floats]) -> bool:
    """Tell whether a child has entries that its parent changed, and not those that only the other one changed."""
    middle = np.median(np.array(others), axis=0)
    for one, other in ((a, b), (b, a)):
        here = (own == one) & (own != other)
        further = np.abs(one[here] - middle[here]) - np.abs(other[here] - middle[here])
        told = further != 0
        if told.sum() < _LEAST_TOLD or (further[told] > 0).mean() < _MOVED:
            return False
    return True


_LEAST_TOLD = 30
