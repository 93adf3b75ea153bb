"""Twins: models that hold the same numbers, or the same numbers in a coarser dtype."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.descent.bucket import MANTISSA, Bucket, Singles
from engine.reader import DTYPES


@dataclass(frozen=True)
class Twin:
    """A model that is another one, as far as its patches tell.

    Attributes:
        model: its place in the bucket.
        of: the place of the first that holds these numbers, or finer ones.
        kind: copy or cast.
        lossy: its numbers are the other's, rounded.
    """

    model: int
    of: int
    kind: str
    lossy: bool


def twins(bucket: Bucket) -> list[Twin]:
    """Models that equal an earlier one, in order; then those that are a remaining one in a coarser dtype."""
    if not bucket.values.shape[1]:
        return []  # nothing was compared
    found: list[Twin] = []
    firsts: dict[tuple[bytes, int], int] = {}
    for i, values in enumerate(bucket.values):
        first = firsts.setdefault(((values + 0.0).tobytes(), bucket.rows[i]), i)  # -0 is 0
        if first != i:
            kind = "copy" if bucket.dtypes[first] == bucket.dtypes[i] else "cast"
            found.append(Twin(i, first, kind, lossy=False))
    left = list(firsts.values())
    for coarse, fine in sorted(_casts(bucket, left)):
        if not any(t.model == coarse for t in found):
            found.append(Twin(coarse, fine, "cast", lossy=True))
    return found


def _casts(bucket: Bucket, among: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Models that are others, rounded to their dtype: (coarse, fine)."""
    glance = slice(None, None, max(1, bucket.values.shape[1] // _GLANCE))
    for to in sorted({bucket.dtypes[i] for i in among} & MANTISSA.keys()):
        if MANTISSA[to] >= _FINEST:
            continue
        finer = [i for i in among if bucket.dtypes[i] != to]
        alike: dict[bytes, list[int]] = {}
        for fine, seen in zip(finer, _rounded(bucket.values[finer, glance], to), strict=True):
            alike.setdefault((seen + 0.0).tobytes(), []).append(fine)
        for coarse in among:
            own = bucket.values[coarse]
            if bucket.dtypes[coarse] == to:
                for fine in alike.get((own[glance] + 0.0).tobytes(), ()):
                    same = bucket.rows[fine] == bucket.rows[coarse]
                    if same and np.array_equal(_rounded(bucket.values[fine], to), own):
                        yield coarse, fine


_FINEST = 23
_GLANCE = 256


def _rounded(values: Singles, dtype: str) -> Singles:
    """Values as a dtype holds them."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(DTYPES[dtype]).float().numpy()
