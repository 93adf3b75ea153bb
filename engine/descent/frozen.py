"""Frozen tensors: what two models have alike to the last bit, tensor by tensor.

Training that leaves a tensor alone, as adapters and frozen layers do, leaves all of it. Merges that choose among entries
leave some of every tensor.
"""

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, once


def frozen(bucket: Bucket, one: int, other: int) -> NDArray[np.bool_]:
    """Which entries are in patches that two models have alike throughout: (s,)."""
    sizes = [span.stop - span.start for span in bucket.spans]
    return np.repeat(_alike(bucket, min(one, other), max(one, other)), sizes)


@once
def _alike(bucket: Bucket, one: int, other: int) -> NDArray[np.bool_]:
    """Which patches those are: (p,)."""
    if not bucket.spans:
        return np.zeros(0, bool)
    same = bucket.values[one] == bucket.values[other]
    return np.logical_and.reduceat(same, [span.start for span in bucket.spans])
