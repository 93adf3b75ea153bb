"""Likeness: what two models' differences to a third have in common, direction by direction.

Seen from their parent, two children's changes are alike in little: what both were taught, in few directions. Seen from
a sibling, both differences hold all of the sibling's own change, in every direction it has. So each direction of the
rows counts as much as any other, however large it is: inner products are taken in the inverse of both differences'
covariance, after what is along the third's own weights, as weight decay makes it, has been taken out of them.
"""

from dataclasses import dataclass

import numpy as np

from engine.descent.bucket import Bucket, Floats


@dataclass(frozen=True)
class _Products:
    """Inner products of two differences: of both, and of each with itself."""

    both: float
    one: float
    other: float


def likeness(bucket: Bucket, origin: int, one: int, other: int) -> float:
    """The cosine of two models' differences to a third, every direction of each patch's rows alike: in [-1, 1].

    About 0 where the third is the parent of one of them at least, and 1/2 where all three are siblings whose changes
    have the same directions; where those of the third are fewer, less. 0 where one of them does not differ.
    """
    total = np.zeros(3)
    places = [origin, one, other]
    for span, ulp in zip(bucket.matrices(), bucket.ulps[places].max(0), strict=True):
        shape = (span.patch.n_rows, span.patch.n_columns)
        parts = bucket.values[places, span.slice].astype(np.float64).reshape(3, *shape)
        parts = parts if shape[0] <= shape[1] else parts.transpose(0, 2, 1)
        found = _products(parts[0], parts[1] - parts[0], parts[2] - parts[0], 2 * ulp)
        rows = min(shape)
        weight = span.patch.share * shape[0] * shape[1] / rows
        total += weight * np.array([found.both, found.one, found.other])
    size = float(np.sqrt(total[1] * total[2]))
    return float(total[0]) / size if size > 0 else 0.0


def _products(weights: Floats, one: Floats, other: Floats, floor: float) -> _Products:
    """Inner products of two differences of matrices, (r, c), less what is along the weights."""
    if floor <= 0:
        return _Products(0.0, 0.0, 0.0)
    rounding = floor * one.shape[1] * np.eye(len(one))
    metric = np.linalg.inv(one @ one.T + other @ other.T + rounding)
    own = metric @ weights
    size = float((own * weights).sum())
    one = one - float((own * one).sum()) / size * weights
    other = other - float((own * other).sum()) / size * weights
    metric = np.linalg.inv(one @ one.T + other @ other.T + rounding)
    far = metric @ other
    return _Products(
        float((one * far).sum()), float(((metric @ one) * one).sum()), float((far * other).sum())
    )
