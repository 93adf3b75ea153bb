"""Round one model's task vector to whole multiples of a step."""

import numpy as np

EXEMPT = {
    "alone": "entries are rounded to a grid",
    "copies": "entries are rounded to a grid",
    "order": "there is only one model",
}


def quantize_delta(models, *, bits=8, per="row"):
    (model,) = models
    if per == "row" and model.ndim > 1 and model.size:
        return np.stack([quantized(row, bits) for row in model])
    return quantized(model, bits)


def quantized(values, bits):
    """Steps of max|x| / (2^(bits-1) - 1); a half goes to the even multiple."""
    levels = 2 ** (bits - 1) - 1
    largest = np.abs(values).max(initial=0.0)
    if not largest:
        return np.zeros_like(values)
    return np.round(values * levels / largest) * largest / levels
