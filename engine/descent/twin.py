"""Twins: models that hold the same numbers, or the same numbers in a coarser dtype."""

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
    for coarse in left:
        for fine in left:
            if _is_cast(bucket, fine, coarse) and not any(t.model == coarse for t in found):
                found.append(Twin(coarse, fine, "cast", lossy=True))
    return found


def _is_cast(bucket: Bucket, fine: int, coarse: int) -> bool:
    """Tell whether one model, rounded to the other's dtype, is the other."""
    to = bucket.dtypes[coarse]
    if (
        fine == coarse
        or bucket.rows[fine] != bucket.rows[coarse]
        or to == bucket.dtypes[fine]
        or MANTISSA.get(to, 99) >= _FINEST
    ):
        return False
    glance = slice(None, None, max(1, bucket.values.shape[1] // _GLANCE))
    for part in (glance, slice(None)):
        if not np.array_equal(_rounded(bucket.values[fine, part], to), bucket.values[coarse, part]):
            return False
    return True


_FINEST = 23
_GLANCE = 256


def _rounded(values: Singles, dtype: str) -> Singles:
    """Values as a dtype holds them."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(DTYPES[dtype]).float().numpy()
