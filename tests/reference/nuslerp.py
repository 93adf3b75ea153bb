"""Arcs between two models, or between their task vectors, by weights."""

import numpy as np
from reference.sphere import between
from reference.steps import each


def nuslerp(
    models,
    *,
    base,
    weight=1.0,
    nuslerp_flatten=True,
    nuslerp_row_wise=False,
    zero="linear",
):
    first, second = each(weight, 2)
    t = 0.5 if abs(first + second) < 1e-6 else second / (first + second)
    u, v = (model - base for model in models)
    if nuslerp_flatten or base.ndim < 2:
        merged = between(u.reshape(-1), v.reshape(-1), t, zero=zero).reshape(base.shape)
    else:
        axis = 0 if nuslerp_row_wise else -1
        u, v = np.moveaxis(u, axis, -1), np.moveaxis(v, axis, -1)
        merged = np.zeros(u.shape)
        for place in np.ndindex(u.shape[:-1]):
            merged[place] = between(u[place], v[place], t, zero=zero)
        merged = np.moveaxis(merged, -1, axis)
    return base + merged
