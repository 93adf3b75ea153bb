"""Twins: models that hold the same numbers, or the same numbers in a coarser dtype."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine.descent.bucket import MANTISSA, Bucket
from engine.descent.kin import components
from engine.descent.pile import Singles
from engine.reader import DTYPES, FLOATS


@dataclass(frozen=True)
class Twin:
    """A model that is another one, as far as its patches tell.

    Attributes:
        model: its place in the bucket.
        of: the place of the one that had these numbers before, or finer ones.
        kind: copy or cast.
        lossy: its numbers are the other's, rounded.
    """

    model: int
    of: int
    kind: str
    lossy: bool


@dataclass(frozen=True)
class Double:
    """A twin by ids.

    Attributes:
        model, of, kind, lossy: as of `Twin`.
    """

    model: str
    of: str
    kind: str
    lossy: bool


def twins(bucket: Bucket) -> list[Twin]:
    """Models that equal another, in order; then those that are a remaining one in a coarser dtype.

    Of equal ones in several dtypes, the original is the one that is a finer model rounded; else the one in the dtype of
    most of its kin; else the one in the narrowest, for all numbers of that fit a wider one. Only among models of one
    dtype, and of two as narrow as each other without kin, it is the first.
    """
    if not bucket.values.shape[1]:
        return []  # nothing was compared
    equal: dict[tuple[bytes, int], list[int]] = {}
    for i, values in enumerate(bucket.values):
        equal.setdefault(((values + 0.0).tobytes(), bucket.rows[i]), []).append(i)  # -0 is 0
    groups = list(equal.values())
    casts = _casts(bucket, groups)
    firsts = _originals(bucket, groups, {group: model for group, (model, _) in casts.items()})
    same = [
        Twin(i, first, "copy" if bucket.dtypes[first] == bucket.dtypes[i] else "cast", lossy=False)
        for group, first in zip(groups, firsts, strict=True)
        for i in group
        if i != first
    ]
    coarser = [Twin(model, firsts[fine], "cast", lossy=True) for model, fine in casts.values()]
    return [*_in_order(same), *_in_order(coarser)]


def may_be_twins(bucket: Bucket, some: Sequence[int]) -> NDArray[np.bool_]:
    """Which models may equal any of some, or be one of them rounded, or the other way round, by a few scalars: (n,)."""
    seen = bucket.values[:, _glance(bucket)]
    narrow = [d for d in sorted(set(bucket.dtypes) & MANTISSA.keys()) if MANTISSA[d] < _FINEST]
    views = [seen, *(_rounded(seen, dtype) for dtype in narrow)]
    found = np.zeros(len(bucket), bool)
    for one in some:
        for view in views:
            found |= (seen == view[one]).all(1) | (view == seen[one]).all(1)
    return found


def _in_order(found: Sequence[Twin]) -> list[Twin]:
    """Twins in the order of their models."""
    return sorted(found, key=lambda twin: twin.model)


def _casts(bucket: Bucket, groups: Sequence[Sequence[int]]) -> dict[int, tuple[int, int]]:
    """Groups of equal models one of which is another group's, rounded: → that model, and the finest such group."""
    found: dict[int, tuple[int, int]] = {}
    finest = [min(FLOATS.index(bucket.dtypes[i]) for i in group) for group in groups]
    for coarse, model, fine in _rounded_ones(bucket, groups):
        best = found.get(coarse)
        if best is None or (finest[fine], fine) < (finest[best[1]], best[1]):
            found[coarse] = (model, fine)
    return found


def _rounded_ones(
    bucket: Bucket, groups: Sequence[Sequence[int]]
) -> Iterator[tuple[int, int, int]]:
    """Groups that are others, rounded: (group, its first model in the dtype that they are rounded to, the finer group)."""
    glance = _glance(bucket)
    for to in sorted(set(bucket.dtypes) & MANTISSA.keys()):
        if MANTISSA[to] >= _FINEST:
            continue
        held = [next((i for i in group if bucket.dtypes[i] == to), None) for group in groups]
        finer = [g for g, model in enumerate(held) if model is None]
        seen = _rounded(bucket.values[[groups[g][0] for g in finer], glance], to)
        alike: dict[bytes, list[int]] = {}
        for fine, values in zip(finer, seen, strict=True):
            alike.setdefault((values + 0.0).tobytes(), []).append(fine)
        for coarse, model in enumerate(held):
            if model is None:
                continue
            own = bucket.values[model]
            for fine in alike.get((own[glance] + 0.0).tobytes(), ()):
                other = groups[fine][0]
                same = bucket.rows[other] == bucket.rows[model]
                if same and np.array_equal(_rounded(bucket.values[other], to), own):
                    yield coarse, model, fine


def _originals(
    bucket: Bucket, groups: Sequence[Sequence[int]], rounded: dict[int, int]
) -> list[int]:
    """Of each group of equal models the one that the others are of.

    Args:
        bucket: all models.
        groups: of all of them.
        rounded: groups that are finer ones rounded, by number → which of their models.
    """
    found = [rounded.get(g, group[0]) for g, group in enumerate(groups)]
    left = [g for g in range(len(groups)) if g not in rounded]
    mixed = {g for g in left if len({bucket.dtypes[i] for i in groups[g]}) > 1}
    if not mixed:
        return found
    seeds = [i for i, g in enumerate(left) if g in mixed]
    for part in components(bucket.of([found[g] for g in left]), seeds):
        inside = [left[i] for i in part]
        kin = [found[g] for g in inside if g not in mixed]
        for g in inside:
            if g in mixed:
                found[g] = _original(bucket, groups[g], kin)
    return found


def _original(bucket: Bucket, group: Sequence[int], kin: Sequence[int]) -> int:
    """The one of equal models whose dtype most of their kin have, if theirs need it no more than these; else the narrowest."""
    glance, dtypes = _glance(bucket), sorted({bucket.dtypes[i] for i in group})
    votes = Counter(
        bucket.dtypes[i]
        for i in kin
        if all(
            np.array_equal(_rounded(bucket.values[i, glance], to), bucket.values[i, glance])
            for to in dtypes
            if DTYPES[to].itemsize < DTYPES[bucket.dtypes[i]].itemsize
        )
    )

    def preferred(i: int) -> tuple[int, int, int]:
        dtype = bucket.dtypes[i]
        return -votes[dtype], DTYPES[dtype].itemsize, i

    return min(group, key=preferred)


_FINEST = 23
_GLANCE = 256


def _glance(bucket: Bucket) -> slice:
    """A few of a bucket's scalars."""
    return slice(None, None, max(1, bucket.values.shape[1] // _GLANCE))


def _rounded(values: Singles, dtype: str) -> Singles:
    """Values as a dtype holds them."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(DTYPES[dtype]).float().numpy()
