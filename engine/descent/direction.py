"""Direction: which end of an edge is the parent.

Training adds energy along a few directions that the parent had weakly or not at all; removing them is rare. So the
leading singular directions of a difference have more of the child than of the parent in them. With D = W_b - W_a and
S = W_a + W_b, and D less its part along S, which is weight decay or growth, the top singular part D_r of each matrix
gives t = Σ <D_r, S> / Σ |D_r|²: above 0, a is the parent. Swapping a and b turns the sign, exactly.
"""

import numpy as np

from engine.descent.bucket import Bucket, Floats, once

VERSION = "1"

_RANK = 4
_LEAST_ROWS = 3  # of a patch that has directions at all


@once
def direction(bucket: Bucket, a: int, b: int) -> float:
    """The statistic t of an edge: above 0 where ``a`` is the parent, below where ``b`` is; 0 where nothing tells."""
    if a > b:
        return -direction(bucket, b, a)
    parts = []
    for span in bucket.matrices():
        patch = span.patch
        if min(patch.n_rows, patch.n_columns) < _LEAST_ROWS:
            continue
        both = bucket.values[[a, b], span.slice].astype(np.float64)
        shape = (patch.n_rows, patch.n_columns)
        parts.append(
            ((both[1] - both[0]).reshape(shape), (both[0] + both[1]).reshape(shape), patch.share)
        )
    size = sum(w * float((s * s).sum()) for _, s, w in parts)
    if not parts or size == 0:
        return 0.0
    along = sum(w * float((d * s).sum()) for d, s, w in parts) / size
    above, below = 0.0, 0.0
    for difference, total, weight in parts:
        top = _top(difference - along * total)
        above += weight * float((top * total).sum())
        below += weight * float((top * top).sum())
    return above / below if below > 0 else 0.0


def _top(matrix: Floats) -> Floats:
    """The part of a matrix that its largest singular values make."""
    if len(matrix) > matrix.shape[1]:
        return _top(matrix.T).T
    _, left = np.linalg.eigh(matrix @ matrix.T)  # its squared singular values, least first
    few = left[:, -min(_RANK, max(1, len(left) // 2)) :]
    return np.asarray(few @ (few.T @ matrix))
