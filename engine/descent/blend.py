"""Blends: models that were merged and then trained on, proved where the training did not reach.

Training passes over rows: those of tokens it never meets, of units that are dead. There a blend still is its parents'
weighted sum, rounded, entry by entry, and no other model's row. A row of a dozen entries in which the parents differ is
a proof of its own: a trained entry is the rounded sum by chance in one of ten or fewer. Where training reached every
row nothing is said: tasks are alike or undo each other, and what is left of a sum cannot be told from that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, rounding_energy, searched
from engine.descent.pile import Floats, Pile

_NEAREST = 12
_MOST_ROWS = 64  # of a patch
_MOST_TOLD = 24  # rows that are looked at
_LEAST_ROWS = 2
_LEAST_ENTRIES = 24
_FEW = 8  # entries of a row in which parents differ, at least
_DIFFER = 3.0  # halves of an ulp
_FITS = 0.95  # of a row's entries that are the sum, rounded
_CLOSE = 8.0  # times the energy of rounding
_ALL = 0.9  # of the rows that training did not reach
_LEAST = 0.1  # weight of a parent
_HALF = 1.05


@dataclass(frozen=True)
class Blend:
    """A model that was a weighted sum of others before it was trained.

    Attributes:
        child: its place in the bucket.
        parents: places, by weight, largest first.
        weights: theirs; they sum to 1.
        n_rows: rows that still are the sum.
        n_entries: entries of those in which the parents differ.
        left: squared length of what training added.
    """

    child: int
    parents: tuple[int, ...]
    weights: tuple[float, ...]
    n_rows: int
    n_entries: int
    left: float

    @property
    def base(self) -> None:
        """None is told of."""
        return


@dataclass(frozen=True)
class _Rows:
    """Rows that training may have passed over, one after another.

    Attributes:
        own: the child's entries, (e,).
        half: half an ulp of each, (e,).
        others: the other models', (n, e).
        row: which row each is of, (e,).
        n: rows.
    """

    own: Floats
    half: Floats
    others: Floats
    row: NDArray[np.int64]
    n: int


@searched(_NEAREST)
def blend(bucket: Bucket, child: int, near: list[int]) -> Blend | None:
    """The two or three parents whose sum a child was before training; None where no row tells.

    Args:
        bucket: all models.
        child: a place in it.
        near: places of those it may be made of, merges too: a row that another has says nothing; the nearest of some.
    """
    if len(near) < 2:  # noqa: PLR2004 - a blend has two parents
        return None
    rows = _untouched(bucket, child, near)
    if rows is None:
        return None
    for size in (2, 3):
        found = []
        for pick in combinations(range(len(near)), size):
            fit = _fit(rows, list(pick))
            if fit is not None:
                found.append(_blend(bucket, child, [near[i] for i in pick], fit))
        if found:
            return min(found, key=lambda b: (b.left, b.parents))
    return None


def _untouched(bucket: Bucket, child: int, near: list[int]) -> _Rows | None:
    """Rows that are a sum of the others' but for rounding, and no other's; None where they are too few."""
    told: list[tuple[int, int, Pile, int]] = []
    for pile in bucket.piles:
        if pile.n_columns <= len(near) + _FEW:
            continue
        own = pile.of(bucket.values[child])[:, :_MOST_ROWS]
        others = pile.of(bucket.values[near])[:, :, :_MOST_ROWS]
        new = ((others == own).mean(3).max(0) <= _FITS) & own.any(2)
        rest = _left(own[new].astype(np.float64), others[:, new].astype(np.float64).swapaxes(0, 1))
        energy = rounding_energy(own[new], bucket.dtypes[child]).sum(1)
        told += [
            (int(pile.places[at]), int(row), pile, int(at))
            for at, row in np.argwhere(new)[rest <= _CLOSE * energy]
        ]
    told.sort(key=lambda found: found[:2])
    told = told[:: max(1, len(told) // _MOST_TOLD)]
    if len(told) < _LEAST_ROWS:
        return None
    index = [pile.index[at, row] for _, row, pile, at in told]
    lengths, entries = [len(part) for part in index], np.concatenate(index)
    own = bucket.values[child, entries]
    half: Floats = np.sqrt(3 * rounding_energy(own, bucket.dtypes[child]))
    theirs = bucket.values[near][:, entries].astype(np.float64)
    row = np.repeat(np.arange(len(told)), lengths)
    return _Rows(own.astype(np.float64), half, theirs, row, len(told))


def _left(own: Floats, others: Floats) -> Floats:
    """Squared length of what each row, (r, c), has beyond the best sum of others', (r, n, c), with weights that sum to 1."""
    free = others[:, 1:] - others[:, :1]
    target = own - others[:, 0]
    products = free @ free.transpose(0, 2, 1)
    load = 1e-9 * np.trace(products, axis1=1, axis2=2) + 1e-30
    products += load[:, None, None] * np.eye(free.shape[1])
    weights = np.linalg.solve(products, free @ target[..., None])
    return np.asarray(np.square(target - (weights.transpose(0, 2, 1) @ free)[:, 0]).sum(1))


def _fit(rows: _Rows, pick: Sequence[int]) -> tuple[Floats, int, int] | None:
    """Weights of which the rows are sums, and how many rows and entries; None where too few are."""
    terms = rows.others[pick]
    free, target = (terms[1:] - terms[0]).T, rows.own - terms[0]
    solved = np.linalg.lstsq(free, target, rcond=None)[0]
    if (np.abs(target - free @ solved) <= 2 * rows.half).mean() < _ALL / 2:
        return None
    best: tuple[Floats, int, int] | None = None
    for rest in (*(np.round(solved * n) / n for n in (100, 20, 10, 3)), solved):
        weights = np.concatenate([[1 - rest.sum()], rest])
        n_rows, n_entries = _count(rows, terms, weights)
        if best is None or n_entries > best[2]:
            best = (weights, n_rows, n_entries)
    if best is None or best[0].min() < _LEAST or best[2] < _LEAST_ENTRIES:
        return None
    return best if best[1] >= max(_LEAST_ROWS, _ALL * rows.n) else None


def _count(rows: _Rows, terms: Floats, weights: Floats) -> tuple[int, int]:
    """Rows that are the sum, rounded, and their entries in which it is none of its terms."""
    made = weights @ terms
    clear = (np.abs(terms - made) > _DIFFER * rows.half).any(0) & (rows.half > 0)
    fits = clear & (np.abs(rows.own - made) <= _HALF * rows.half)
    n_clear = np.bincount(rows.row[clear], minlength=rows.n)
    n_fits = np.bincount(rows.row[fits], minlength=rows.n)
    proved = (n_clear >= _FEW) & (n_fits > _FITS * n_clear)
    return int(proved.sum()), int(n_clear[proved].sum())


def _blend(
    bucket: Bucket, child: int, parents: Sequence[int], fit: tuple[Floats, int, int]
) -> Blend:
    """A blend with its parents in order."""
    weights, n_rows, n_entries = fit
    made = weights @ bucket.values[list(parents)].astype(np.float64)
    order = sorted(range(len(parents)), key=lambda i: (-weights[i], parents[i]))
    return Blend(
        child, tuple(parents[i] for i in order), tuple(float(weights[i]) for i in order),
        n_rows, n_entries, bucket.energy(bucket.values[child] - made),
    )  # fmt: skip
