"""Piecewise merges: models that are others' weighted sums tensor by tensor, with other weights in each.

SLERP, Model Stock and merges with a slope over layers are exact in every tensor; a Frankenmerge takes each tensor whole
from one of its parents. Both are proved as in `combination`, by the share of entries that are the sum, rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from engine.descent.bucket import Bucket, Span, rounding_energy, searched
from engine.descent.combination import base_among
from engine.descent.direction import direction
from engine.descent.pile import Floats
from registry.tensor_name import module_of

LEAST_MATCH = 0.97

_NEAREST = 16
_TRIPLES_OF = 8
_COVERED = 0.95  # of the entries, that are in tensors taken whole
_PART = 0.08  # of the entries, that a parent of a Frankenmerge gives alone, at least
_CLEARLY = 0.25  # statistic of a direction, from which on the child is clearly the parent
_FEW = 6
_APART = 12.0  # times rounding, that a parent is away
_EXTRA = 4  # entries of a patch for each weight, at least


@dataclass(frozen=True)
class Piecewise:
    """A model whose tensors are sums of its parents', each with weights of its own.

    Attributes:
        child: its place in the bucket.
        parents: places, by mean weight, largest first.
        weights: mean weight of each over all entries; of a Frankenmerge the share of the entries it gives.
        match: share of the entries that are the sum, rounded.
        base: the parent from which the others' differences are orthogonal; None where none is.
        whole: each tensor is one parent's.
    """

    child: int
    parents: tuple[int, ...]
    weights: tuple[float, ...]
    match: float
    base: int | None
    whole: bool


def frankenmerge(bucket: Bucket, child: int, among: Sequence[int]) -> Piecewise | None:
    """The parents that a model's tensors were taken from, each whole; None where that is not so."""
    others = [i for i in among if i != child]
    spans = [s for s in bucket.matrices() if bucket.values[child, s.slice].any()]
    sizes = np.array([s.patch.shape[0] * s.patch.shape[1] for s in spans], dtype=np.float64)
    if not others or not spans:
        return None
    firsts = bucket.values[:, [s.start for s in spans]]
    same = firsts[others] == firsts[child]  # of most no more needs to be looked at
    for i, at in np.argwhere(same):
        part = spans[at].slice
        same[i, at] = np.array_equal(bucket.values[others[i], part], bucket.values[child, part])
    shares = (same * sizes).sum(1) / sizes.sum()
    if shares.max() >= 1 - _PART or (same.any(0) * sizes).sum() < _COVERED * sizes.sum():
        return None
    parents: list[int] = []
    given: list[float] = []
    left = np.ones(len(spans), bool)
    while left.any():
        gains = (same * (sizes * left)).sum(1) / sizes.sum()
        best = int(np.argmax(gains))
        if gains[best] < _PART:
            break
        parents.append(others[best])
        given.append(float(gains[best]))
        left &= ~same[best]
    if len(parents) < 2 or (sizes * left).sum() > (1 - _COVERED) * sizes.sum():  # noqa: PLR2004
        return None
    if not _in_every_module(bucket, spans, parents) or all(
        direction(bucket, child, p) > _CLEARLY for p in parents
    ):  # of children that were trained in other parts, their own parent holds each part too
        return None
    return Piecewise(child, tuple(parents), tuple(given), 1.0, None, whole=True)


def _in_every_module(bucket: Bucket, spans: Sequence[Span], parents: Sequence[int]) -> bool:
    """Tell whether parents differ in every module, as trained models do, or only where one of them was touched.

    Of two children that touched other parts, their own parent looks as if it had been put together.
    """
    values = bucket.values
    modules = {module_of(s.patch.tensor) for s in spans if s.patch.layer is not None}
    for a, b in combinations(parents, 2):
        apart = {
            module_of(s.patch.tensor) for s in spans
            if s.patch.layer is not None and (values[a, s.slice] != values[b, s.slice]).any()
        }  # fmt: skip
        if apart != modules:
            return False
    return True


@searched(_NEAREST)
def piecewise(bucket: Bucket, child: int, near: list[int]) -> Piecewise | None:
    """The two parents, or two parents and their base, of which each tensor is an exact sum; None where there are none."""
    found: list[Piecewise] = []
    floor = bucket.floors[child]
    near = [i for i in near if bucket.distances[child, i] > _APART * floor]
    if len(near) < 2 or not _may_be_made(bucket, child, near):  # noqa: PLR2004
        return None
    for size, most in ((2, _NEAREST), (3, _TRIPLES_OF), (4, _FEW)):
        for pick in combinations(near[:most], size):
            made = _fitted(bucket, child, pick)
            if made is not None:
                found.append(made)
        if found:
            return max(found, key=lambda p: (p.match, [-x for x in p.parents]))
    return None


def _may_be_made(bucket: Bucket, child: int, near: Sequence[int]) -> bool:
    """Tell whether all of the nearest together come close; where they do not, no few of them do."""
    rest = floor = 0.0
    n_seen = 0
    for span in bucket.matrices():
        own = bucket.values[child, span.slice].astype(np.float64)
        terms = bucket.values[list(near), span.slice].astype(np.float64)
        if own.size < _EXTRA * len(near) or (own == terms).all(1).any():
            continue
        axes = np.linalg.qr(terms.T)[0]
        rest += float(np.square(own - axes @ (axes.T @ own)).sum())
        energy = rounding_energy(bucket.values[child, span.slice], bucket.dtypes[child])
        floor += float(energy.sum())
        n_seen += 1
        if n_seen == _FIRST:
            break
    return rest <= _CLOSE * floor or not n_seen


def _fitted(bucket: Bucket, child: int, parents: tuple[int, ...]) -> Piecewise | None:
    """Fit every patch for itself; None where the sums are not those of rounding."""
    fits: list[tuple[float, float, Floats]] = []
    for span in bucket.matrices():
        own = bucket.values[child, span.slice].astype(np.float64)
        if own.size < _EXTRA * len(parents):
            continue
        terms = bucket.values[list(parents), span.slice].astype(np.float64)
        if (own == terms).all(1).any() and (terms == terms[0]).all():
            continue  # all are alike there: nothing is told
        half = np.sqrt(3 * rounding_energy(bucket.values[child, span.slice], bucket.dtypes[child]))
        weights = _weights(own, terms, half)
        fit = np.abs(own - weights @ terms) <= 1.05 * half
        size = span.patch.shape[0] * span.patch.shape[1]
        fits.append((size, float(fit.mean()), weights))
        if len(fits) == _FIRST and sum(f for _, f, _ in fits) < 0.7 * _FIRST:
            return None
    if not fits:
        return None
    total = sum(size for size, _, _ in fits)
    match = sum(size * fit for size, fit, _ in fits) / total
    mean = np.sum([size * weights for size, _, weights in fits], axis=0) / total
    if match < LEAST_MATCH or np.abs(mean).min() < _PART or (mean < 0).sum() > 0:
        return None
    order = sorted(range(len(parents)), key=lambda i: (-mean[i], parents[i]))
    return Piecewise(
        child, tuple(parents[i] for i in order), tuple(float(mean[i]) for i in order), match,
        base_among(bucket, parents), whole=False,
    )  # fmt: skip


def _weights(own: Floats, terms: Floats, half: Floats) -> Floats:
    """Weights whose sum leaves less beyond half an ulp; least squares alone are drawn to where rounding went.

    Args:
        own: entries of one patch, (s,).
        terms: the parents', (k, s).
        half: half an ulp of each entry, (s,).
    """
    found = np.asarray(np.linalg.lstsq(terms.T, own, rcond=None)[0], np.float64)
    best, least = found, 1.0
    for _ in range(_REFINED):
        left = own - found @ terms
        beyond = left - np.clip(left, -half, half)
        off = beyond != 0
        if off.mean() < least:
            best, least = found, float(off.mean())
        if not off.any() or off.mean() > _HOPELESS:
            break
        found = found + np.linalg.lstsq(terms[:, off].T, beyond[off], rcond=None)[0]
    return best


_REFINED = 4  # rounds
_HOPELESS = 0.5  # of the entries off: no rounding
_FIRST = 4
_CLOSE = 16.0  # times the energy of rounding
