"""Model Stock: the average of the models, drawn towards the base as far as their task vectors disagree.

Jang et al., "Model Stock: All we need is just a few fine-tuned models", ECCV 2024. arXiv:2403.19522
"""

import math
from typing import Literal

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import MANY, Positive, Tensors, merge_method
from engine.ops import weighted_columns, weighted_sum
from engine.products import row_dots
from engine.sphere import gram, surveyed_gram

Average = Literal["cosine", "angle"]

_SINGULAR = 1e-6
"""Below this 1 + (n-1) cos θ is 0, and so is t."""


@merge_method(
    ends_in_sum=True,
    space="delta",
    scope="tensor",
    survey=surveyed_gram,
    survey_when={"filter_wise": (False,)},
    rows_when={"filter_wise": (True,)},
    paper="2403.19522",
    n_models=(2, MANY),
    compat={"mergekit": {"bounded": False, "norms_at_least": 1e-6}},
)
def model_stock(
    deltas: Tensors,
    *,
    whole: Floats | None = None,
    filter_wise: bool = False,
    bounded: bool = True,
    average: Average = "cosine",
    norms_at_least: Positive = 0.0,
) -> torch.Tensor:
    """Take the share t of the mean task vector that the angle θ between task vectors calls for, tensor by tensor.

    W = W_0 + t/n Σ δ_i, with t = n cos θ / (1 + (n-1) cos θ) and cos θ the mean over the pairs of models. A task
    vector of zeros is at a right angle to everything. Where 1 + (n-1) cos θ is 0 the task vectors cancel out and t
    is 0. Laws: copies of one model give that model; task vectors at right angles give the base.

    The paper knows one θ: its mean over pairs is each implementer's choice. So is ``bounded``: a negative cos θ
    gives a negative t, in the end without limit.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        whole: the task vectors' dot products, from the survey; None: the tensors are whole.
        filter_wise: one θ for each vector along the last axis, instead of one for the tensor.
        bounded: keep t in [0, 1].
        average: over pairs, take the mean of cosines, as mergekit does, or of angles, as fusion_bench does.
        norms_at_least: ‖δ_i‖ ‖δ_j‖ is taken to be at least this when cosines are made; mergekit's 1e-6 puts small
            tensors back to the base.

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    rows = None
    if filter_wise and deltas[0].dim():
        rows = [delta.reshape(math.prod(delta.shape[:-1]), delta.shape[-1]) for delta in deltas]
        products = _row_products(rows)
    else:
        products = (gram(deltas) if whole is None else whole)[:, :, None]
    cosine = _mean_cosine(products, average, norms_at_least)
    below = 1 + (n - 1) * cosine
    t = np.where(below < _SINGULAR, 0.0, n * cosine / np.where(below < _SINGULAR, 1.0, below))
    shares = (np.clip(t, 0.0, 1.0) if bounded else t) / n
    if rows is None:
        return weighted_sum(deltas, [float(shares[0])] * n)
    scales = torch.from_numpy(shares).float().expand(n, -1)
    return weighted_columns(rows, scales, by_row=True).reshape(deltas[0].shape)


def _row_products(rows: Tensors) -> Floats:
    """Dot products of the models' rows, each two models: (n, n, rows) float64."""
    n = len(rows)
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    products = np.zeros((n, n, len(rows[0])))
    for (i, j), dots in zip(pairs, row_dots(rows, pairs), strict=True):
        products[i, j] = products[j, i] = dots.numpy()
    return products


def _mean_cosine(products: Floats, average: Average, norms_at_least: float) -> Floats:
    """The cosine of the angle between task vectors, over all pairs: (rows,)."""
    n = len(products)
    total = np.zeros(products.shape[2])
    for i in range(n):
        for j in range(i + 1, n):
            length = np.maximum(np.sqrt(products[i, i]) * np.sqrt(products[j, j]), norms_at_least)
            cosine = np.divide(products[i, j], length, out=np.zeros_like(length), where=length > 0)
            cosine = np.clip(cosine, -1.0, 1.0)
            total += np.arccos(cosine) if average == "angle" else cosine
    mean = total / (n * (n - 1) / 2)
    return np.cos(mean) if average == "angle" else mean
