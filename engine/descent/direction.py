"""Direction: which end of an edge is the parent.

Training adds energy along a few directions that the parent had weakly or not at all; removing them is rare. So the
leading singular directions of a difference have more of the child than of the parent in them. With D = W_b - W_a and
S = W_a + W_b, and D less its part along S, which is weight decay or growth, the top singular part D_r of each matrix
gives t = Σ <D_r, S> / Σ |D_r|²: above 0, a is the parent. Swapping a and b turns the sign, exactly.
"""

import numpy as np

from engine.descent.bucket import Bucket, once
from engine.descent.pile import Floats

VERSION = "1"

_RANK = 4
_LEAST_ROWS = 3  # of a patch that has directions at all


@once
def direction(bucket: Bucket, a: int, b: int) -> float:
    """The statistic t of an edge: above 0 where ``a`` is the parent, below where ``b`` is; 0 where nothing tells."""
    if a > b:
        return -direction(bucket, b, a)
    parts: list[tuple[Floats, Floats, Floats]] = []
    for pile in bucket.piles:
        if pile.least >= _LEAST_ROWS:
            one, other = pile.wide(bucket.values[[a, b]]).astype(np.float64)
            parts.append((other - one, one + other, pile.shares))
    size = sum(_inner(shares, s, s) for _, s, shares in parts)
    if not parts or size == 0:
        return 0.0
    along = sum(_inner(shares, d, s) for d, s, shares in parts) / size
    above, below = 0.0, 0.0
    for difference, total, shares in parts:
        top = _top(difference - along * total)
        above += _inner(shares, top, total)
        below += _inner(shares, top, top)
    return above / below if below > 0 else 0.0


def _inner(shares: Floats, one: Floats, other: Floats) -> float:
    """Inner product of matrices, (m, r, c), each counted as often as its share, (m,), says."""
    return float(shares @ np.einsum("mrc,mrc->m", one, other))


def _top(matrices: Floats) -> Floats:
    """The part of each matrix, (m, r, c), that its largest singular values make; r is at most c."""
    # squared singular values, least first
    _, left = np.linalg.eigh(matrices @ matrices.swapaxes(1, 2))
    few = left[:, :, -min(_RANK, max(1, left.shape[1] // 2)) :]
    return np.asarray(few @ (few.swapaxes(1, 2) @ matrices))
