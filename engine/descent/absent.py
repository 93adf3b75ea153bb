"""Absent bases: what is known, entry by entry, of a base that nobody has.

A mosaic whose parents' means show, see `engine.descent.mosaic`, has the base's own entries wherever it has neither parent's
nor their mean. On those entries the base is a model like any other, and everything that is proved from a base can be proved.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, Span
from engine.descent.masked import Masked
from engine.descent.mosaic import Mosaic

PRESENT = 0.9
"""Share of the entries that mosaics show, from which on a model that has them is the base they show."""

_LEAST_ENTRIES = 200


def with_absent(
    bucket: Bucket, mosaics: Sequence[Mosaic], masks: Sequence[Masked], among: Sequence[int]
) -> Bucket | None:
    """The bucket with the absent base as its last model, on the entries where that is known; None where too few are.

    Args:
        bucket: all models.
        mosaics: of one component.
        masks: merges that are known to be on that base already: what two of them have, and no parent of theirs, is it.
        among: places of its models: where one of them has the base's entries, that is the base, and none is absent.
    """
    values = np.zeros(bucket.values.shape[1], np.float32)
    known = np.zeros(len(values), bool)
    for found in sorted(mosaics, key=lambda m: (-m.z, m.child)):
        if found.averaged:
            _learn(values, known, bucket.values[found.child], found.rest)
    neither = [(m.child, _neither(bucket, m)) for m in masks]
    neither += [(m.child, m.rest) for m in mosaics if not m.averaged]
    for (one, here), (other, there) in combinations(neither, 2):
        agreed = here & there & (bucket.values[one] == bucket.values[other])
        _learn(values, known, bucket.values[one], agreed)
    if known.sum() < _LEAST_ENTRIES:
        return None
    children = {m.child for m in mosaics} | {m.child for m in masks}
    for i in among:
        if i not in children and (bucket.values[i, known] == values[known]).mean() > PRESENT:
            return None
    return _extended(bucket, values[known], known)


def _neither(bucket: Bucket, merge: Masked) -> NDArray[np.bool_]:
    """Where a merge has none of its parents' entries: (s,)."""
    own = bucket.values[merge.child]
    found: NDArray[np.bool_] = bucket.counts > 0
    for parent in merge.parents:
        found &= bucket.values[parent] != own
    return found


def _learn(
    values: NDArray[np.float32], known: NDArray[np.bool_], source: NDArray[np.float32],
    where: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Take entries that are not known yet; the arrays are changed."""
    new = where & ~known
    values[new] = source[new]
    known |= new


def _extended(bucket: Bucket, values: NDArray[np.float32], known: NDArray[np.bool_]) -> Bucket:
    """The bucket on some entries, and one model more."""
    spans: list[Span] = []
    at = 0
    for span in bucket.matrices():
        n = int(known[span.slice].sum())
        if n:
            spans.append(replace(span, start=at, stop=at + n))
            at += n
    rows = np.vstack([bucket.values[:, known], values[None]])
    finest = bucket.dtypes[0]
    return Bucket(
        (*bucket.models, "absent"), (*bucket.dtypes, finest), rows, tuple(spans),
        (*bucket.rows, bucket.rows[0]),
    )  # fmt: skip
