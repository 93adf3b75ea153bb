"""Frozen tensors: what two models have alike to the last bit, tensor by tensor.

Training that leaves a tensor alone, as adapters and frozen layers do, leaves all of it. Merges that choose among entries
leave some of every tensor.
"""

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, once


@once
def frozen(bucket: Bucket, one: int, other: int) -> NDArray[np.bool_]:
    """Which entries are in patches that two models have alike throughout: (s,)."""
    if not bucket.spans:
        return np.zeros(0, bool)
    same = bucket.values[one] == bucket.values[other]
    starts = [span.start for span in bucket.spans]
    sizes = [span.stop - span.start for span in bucket.spans]
    return np.repeat(np.logical_and.reduceat(same, starts), sizes)
