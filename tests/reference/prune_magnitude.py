"""Keep the largest entries of one model."""

import numpy as np
from reference.steps import each, trimmed

EXEMPT = {"order": "there is only one model"}


def prune_magnitude(models, *, density=0.5, rescale=False, per="tensor"):
    (model,), (p,) = models, each(density, 1)
    if per == "row" and model.ndim > 1 and model.size:
        kept = np.stack([trimmed(row, p) for row in model])
    else:
        kept = trimmed(model, p)
    return kept / p if rescale else kept
