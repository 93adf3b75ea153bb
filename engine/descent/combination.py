"""Combinations: models that are others' weighted sums, proved by what rounding leaves.

A merge that was computed exactly and stored in a dtype of m bits differs from the sum by no more than rounding: the
squared residual over Σ ulp²/12, its floor ratio, is about 1 (1.5 for halves, whose errors are 0 or half an ulp; 0
for whole weights, which need little rounding). For a model that was trained it is tens to thousands. Read the other way
round, as a parent made from its own child, the same relation leaves more than rounding, so that fewer entries are the
sum rounded: this share, the match, is 1 for the child, and tells it from its parents. Weights sum to 1, for the base
is among the terms; at most one, the base's, is negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from engine.descent.bucket import Bucket, rounding_energy
from engine.descent.pile import Floats
from engine.descent.tree import relative

MOST_RATIO = 2.4
"""Floor ratio of a combination that was computed and rounded once, at most."""

LEAST_MATCH = 0.985
"""Share of the entries that are the sum rounded, at least; where weights are estimates, some are not."""

SURE_MATCH = 0.98
"""From this match on no combination of more terms is looked for."""

_NEAREST = 32
_PAIRS_OF = 24
_TRIPLES_OF = 16
_LARGER_OF = 8
_LARGEST = 6  # terms
_GLANCE = 4096  # entries that are looked at first
_GLANCE_LOSS = 0.02
_LEAST = 0.02  # weight of a term
_ORTHOGONAL = 0.5  # cosine of task vectors that have nothing to do with each other, at most


@dataclass(frozen=True)
class Combination:
    """A model as a weighted sum of others.

    Attributes:
        child: its place in the bucket.
        parents: places of the terms, by weight, largest first.
        weights: theirs; they sum to 1.
        floor_ratio: squared residual over that of rounding.
        match: share of the entries that are the sum, rounded.
        base: place of the term that is the base of the others' task vectors; None where none is.
    """

    child: int
    parents: tuple[int, ...]
    weights: tuple[float, ...]
    floor_ratio: float
    match: float
    base: int | None


def combinations_of(bucket: Bucket, child: int, among: Sequence[int]) -> list[Combination]:
    """The combinations of other models that give a child exactly, best first.

    Args:
        bucket: all models.
        child: a place in it.
        among: places of those it may be made of.
    """
    near = bucket.nearest(child, among, _NEAREST)
    if len(near) < 2 or not bucket.floors[child]:  # noqa: PLR2004 - a combination has two terms
        return []
    products = relative(bucket.gram, child, near)
    limit = _limit(bucket, child)
    if _residual(products) > limit:
        return []
    found: list[Combination] = []
    for size in range(2, _LARGEST + 1):
        most = {2: _PAIRS_OF, 3: _TRIPLES_OF}.get(size, _LARGER_OF)
        found += _of_size(
            bucket, child, near[:most], products[:most, :most], size=size, limit=limit
        )
        found.sort(key=lambda c: (-c.match, len(c.parents), c.floor_ratio))
        if found and found[0].match >= SURE_MATCH:
            break
    return found


def _limit(bucket: Bucket, child: int) -> float:
    """Squared residuals that may be rounding, with what a Gram matrix in float64 loses."""
    return float(MOST_RATIO * bucket.floors[child] + 1e-11 * np.diag(bucket.gram).max())


def _solve(products: Floats) -> Floats:
    """Weights that sum to 1 and make the shortest sum: (…, k)."""
    k = products.shape[-1]
    trace = np.trace(products, axis1=-2, axis2=-1)[..., None, None] / k
    loaded = products + 1e-12 * trace * np.eye(k)
    raw = np.linalg.solve(loaded, np.ones((*products.shape[:-2], k, 1)))[..., 0]
    return np.asarray(raw / raw.sum(-1, keepdims=True))


def _residual(products: Floats) -> float:
    """Squared length of the shortest sum."""
    try:
        weights = _solve(products)
    except np.linalg.LinAlgError:
        return 0.0
    return float(weights @ products @ weights)


def _of_size(
    bucket: Bucket, child: int, near: Sequence[int], products: Floats, *, size: int, limit: float
) -> list[Combination]:
    """Exact combinations of so many terms."""
    picks = np.array(list(combinations(range(len(near)), size)), dtype=np.int64)
    if not len(picks):
        return []
    parts = products[picks[:, :, None], picks[:, None, :]]
    try:
        weights = _solve(parts)
    except np.linalg.LinAlgError:
        return []
    residuals = np.einsum("ni,nij,nj->n", weights, parts, weights)
    sound = (residuals <= limit) & (np.abs(weights) >= _LEAST).all(1)
    sound &= (weights < 0).sum(1) <= 1
    found = []
    for pick, own in zip(picks[sound], weights[sound], strict=True):
        made = _combination(bucket, child, [near[i] for i in pick], own)
        if made is not None:
            found.append(made)
    return found


def _combination(
    bucket: Bucket, child: int, parents: Sequence[int], weights: Floats
) -> Combination | None:
    """A combination whose residual, taken exactly, is that of rounding; None where it is not."""
    step = max(1, bucket.values.shape[1] // _GLANCE)
    nearer = _refined(bucket, child, parents, weights, step=step)
    tried = [*_snapped(weights), *_snapped(nearer), weights, nearer]  # round ones first
    best = max(tried, key=lambda w: _match(bucket, child, parents, w, step=step))
    if _match(bucket, child, parents, best, step=step) < LEAST_MATCH - _GLANCE_LOSS:
        return None
    match = _match(bucket, child, parents, best)
    difference = bucket.values[child] - _sum(bucket, parents, best)
    ratio = bucket.energy(difference) / bucket.floors[child]
    if ratio > MOST_RATIO or match < LEAST_MATCH:
        return None
    weights = best
    negative = [p for p, w in zip(parents, weights, strict=True) if w < 0]
    base = negative[0] if negative else None
    if negative and len(parents) > 2 and not is_base(bucket, base, parents):  # noqa: PLR2004
        return None
    order = sorted(range(len(parents)), key=lambda i: (-weights[i], parents[i]))
    return Combination(
        child, tuple(parents[i] for i in order), tuple(float(weights[i]) for i in order), ratio, match, base
    )  # fmt: skip


def _refined(
    bucket: Bucket, child: int, parents: Sequence[int], weights: Floats, *, step: int
) -> Floats:
    """Weights whose sum leaves less beyond half an ulp: least squares take what rounding left for normal, and it is not.

    Parents are on a grid too, and a small share of their difference is rounded towards one of them.
    """
    own = bucket.values[child, ::step].astype(np.float64)
    half = np.sqrt(3 * rounding_energy(bucket.values[child, ::step], bucket.dtypes[child]))
    terms = bucket.values[list(parents), ::step].astype(np.float64)
    counted = bucket.counts[::step] > 0
    found = weights.copy()
    for _ in range(_REFINED):
        left = own - found @ terms
        beyond = left - np.clip(left, -half, half)
        off = counted & (beyond != 0)
        if not off.any():
            break
        free = (terms[1:, off] - terms[0, off]).T
        found[1:] += np.linalg.lstsq(free, beyond[off], rcond=None)[0]
        found[0] = 1 - found[1:].sum()
    return found


_REFINED = 8  # rounds


def _snapped(weights: Floats) -> list[Floats]:
    """The round weights that may have been meant."""
    parts = (np.round(weights * n) / n for n in (1000, 100, 10, 2, 3, 6, 7, 9))
    return [rounded for rounded in parts if abs(rounded.sum() - 1) < _WHOLE]


_WHOLE = 1e-9


def _sum(bucket: Bucket, parents: Sequence[int], weights: Floats) -> Floats:
    """The weighted sum: (s,)."""
    made = np.zeros(bucket.values.shape[1])
    for parent, weight in zip(parents, weights, strict=True):
        made += weight * bucket.values[parent].astype(np.float64)
    return made


def _match(
    bucket: Bucket, child: int, parents: Sequence[int], weights: Floats, *, step: int = 1
) -> float:
    """Share of the entries of matrices that differ from the sum by half an ulp at most, of those that are not 0."""
    own = bucket.values[child, ::step]
    made = np.zeros(len(own))
    for parent, weight in zip(parents, weights, strict=True):
        made += weight * bucket.values[parent, ::step].astype(np.float64)
    half = np.sqrt(3 * rounding_energy(own, bucket.dtypes[child]))
    counted = (bucket.counts[::step] > 0) & (half > 0)
    fits = np.abs(own - made) <= half * (1 + 1e-3)
    return float(fits[counted].mean()) if counted.any() else 0.0


def base_among(bucket: Bucket, parents: Sequence[int]) -> int | None:
    """The one of three models or more whose differences to the others are orthogonal to each other; None for none."""
    if len(parents) < 3:  # noqa: PLR2004 - two have no base among them
        return None
    fit = [p for p in parents if is_base(bucket, p, parents)]
    return min(fit, key=lambda p: _worst(bucket, p, parents), default=None)


def is_base(bucket: Bucket, base: int | None, parents: Sequence[int]) -> bool:
    """Tell whether the others' differences to one of them are about orthogonal."""
    return base is not None and _worst(bucket, base, parents) < _ORTHOGONAL


def _worst(bucket: Bucket, base: int, parents: Sequence[int]) -> float:
    """Largest |cosine| among the differences of models to one of them."""
    others = [p for p in parents if p != base]
    products = relative(bucket.gram, base, others)
    norms = np.sqrt(np.diag(products))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.abs(products / np.outer(norms, norms))
    np.fill_diagonal(cosine, 0.0)
    return float(np.nan_to_num(cosine, nan=1.0).max())
