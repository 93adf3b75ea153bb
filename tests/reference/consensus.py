"""Task arithmetic on the entries that several tasks need."""

import numpy as np
from reference.steps import each

EXEMPT = {"copies": "with many copies the others drown what one of them needs"}


def consensus(models, *, weight=1.0, lambda_=1.0, threshold=0.4, at_least=2):
    n = len(models)
    parts = [w * m for w, m in zip(each(weight, n), models, strict=True)]
    total = sum(parts)
    needed = sum((abs(p) >= threshold * abs(total - p)).astype(int) for p in parts)
    return lambda_ * np.where(needed >= min(at_least, n), total, 0.0)
