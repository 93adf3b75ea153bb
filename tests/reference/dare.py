"""Drop one model's entries at random, or shrink them, and make up for it."""

import numpy as np
from reference.steps import each

EXEMPT = {"order": "there is only one model"}


def dare(models, *, uniforms, density=0.5, rescale=True, rescale_by="density", k=0.0):
    (model,), (drawn,), (share,) = models, uniforms, each(density, 1)
    kept = drawn < share
    if rescale_by == "l1":
        whole, left = float(np.abs(model).sum()), float(np.abs(model[kept]).sum())
        share = left / whole if min(whole, left) >= 1e-7 else 1.0
    p = 1 - share
    return np.where(kept, (1 - k * p) / (1 - p) * model if rescale else model, k * model)
