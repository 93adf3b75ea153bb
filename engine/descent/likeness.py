"""Likeness: what two models' differences to a third have in common, direction by direction.

Seen from their parent, two children's changes are alike in little: what both were taught, in few directions. Seen from
a sibling, both differences hold all of the sibling's own change, in every direction it has. So each direction of the
rows counts as much as any other, however large it is: inner products are taken in the inverse of both differences'
covariance, after what is along the third's own weights, as weight decay makes it, has been taken out of them.
"""

import numpy as np

from engine.descent.bucket import Bucket, once
from engine.descent.pile import Floats, Singles


def likeness(bucket: Bucket, origin: int, one: int, other: int) -> float:
    """The cosine of two models' differences to a third, every direction of each patch's rows alike: in [-1, 1].

    About 0 where the third is the parent of one of them at least, and 1/2 where all three are siblings whose changes
    have the same directions; where those of the third are fewer, less. 0 where one of them does not differ.
    """
    return _likeness(bucket, origin, min(one, other), max(one, other))


@once
def _likeness(bucket: Bucket, origin: int, one: int, other: int) -> float:
    """The same, of two in order."""
    total = np.zeros(3)
    places = [origin, one, other]
    floors = 2 * bucket.ulps[places].max(0)
    for pile in bucket.piles:
        told = floors[pile.places] > 0
        if told.any():
            own = pile.some(told)
            weights = own.shares * (own.n_rows * own.n_columns / own.least)
            total += weights @ _products(own.wide(bucket.values[places]), floors[own.places])
    size = float(np.sqrt(total[1] * total[2]))
    return float(total[0]) / size if size > 0 else 0.0


def _products(parts: Singles, floors: Floats) -> Floats:
    """Inner products of two differences to a model, less what is along its weights: of both, of each with itself.

    Args:
        parts: the model's matrices, and those of the two, (3, m, r, c).
        floors: variance of an entry's rounding in each matrix, above 0: (m,).

    Returns:
        (m, 3).
    """
    weights, *ends = parts.astype(np.float64)
    one, other = (end - weights for end in ends)
    rounding = (floors * weights.shape[2])[:, None, None] * np.eye(weights.shape[1])
    own = np.linalg.inv(_gram(one) + _gram(other) + rounding) @ weights
    size = _inner(own, weights)[:, None, None]
    along = np.divide(weights, size, out=np.zeros_like(weights), where=size > 0)
    one = one - _inner(own, one)[:, None, None] * along
    other = other - _inner(own, other)[:, None, None] * along
    metric = np.linalg.inv(_gram(one) + _gram(other) + rounding)
    near, far = metric @ one, metric @ other
    return np.stack([_inner(one, far), _inner(near, one), _inner(far, other)], axis=1)


def _gram(parts: Floats) -> Floats:
    """Inner products of the rows of each matrix: (m, r, c) → (m, r, r)."""
    return parts @ parts.swapaxes(1, 2)


def _inner(one: Floats, other: Floats) -> Floats:
    """Inner products of matrices: (m,)."""
    return np.asarray(np.einsum("mrc,mrc->m", one, other))
