"""Each entry at most t away from the base."""

import numpy as np

EXEMPT = {
    "alone": "entries are cut at t",
    "copies": "entries are cut at t",
    "order": "there is only one model",
}


def nearswap(models, *, t=1e-4, eps=0.0):
    (model,) = models
    flat = model.reshape(-1)
    share = [min(1.0, t / max(abs(x), eps)) if max(abs(x), eps) else 0.0 for x in flat]
    return (flat * np.array(share)).reshape(model.shape)
