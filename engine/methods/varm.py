"""VaRM: weigh models by how much each of their matrices, layers or wholes moved.

Wan et al., "Knowledge Fusion of Chat LLMs: A Preliminary Technical Report", 2024, equation 7. arXiv:2402.16107
"""

import math
from typing import Literal

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import Lambda, Look, Tensors, merge_method
from engine.ops import weighted_sum
from engine.products import SUMMED, block_dots, dots
from registry.tensor_name import split_layer

Granularity = Literal["matrix", "layer", "model"]


def measure(look: Look, *, granularity: Granularity = "matrix") -> dict[str, list[float]]:
    """Σ δ_i² of each matrix, each layer, or of the model, for each model."""
    squares: dict[str, list[Floats]] = {}
    for tensor, found in look(
        lambda s: block_dots(s.models, [(i, i) for i in range(len(s.models))], SUMMED)
    ):
        squares.setdefault(_group(tensor, granularity), []).append(found)
    return {
        group: [math.fsum(c) for c in np.concatenate(rows).T] for group, rows in squares.items()
    }


@merge_method(ends_in_sum=True, space="delta", scope="model", paper="2402.16107", survey=measure)
def varm(
    deltas: Tensors,
    *,
    tensor: str,
    whole: dict[str, list[float]] | None,
    granularity: Granularity = "matrix",
    lambda_: Lambda = 1.0,
) -> torch.Tensor:
    """Average the task vectors, each weighing as much as it moved.

    w_i = mean(δ_i²) / Σ mean(δ_k²) over the tensor, its layer or the whole model, and δ = λ Σ w_i δ_i; where no model
    moved, all weigh the same. The paper's best is the matrix. (The released script compares the models with each
    other, and with the README's arguments skips every parameter.) Laws: λ = 0 gives the base; one model, or n copies
    of it, give that model; the order does not matter, but for rounding.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        whole: Σ δ_i² by layer or model, from the survey.
        granularity: what is weighed together; a tensor outside of the layers is a layer of its own.
        lambda_: scale of the merged task vector, λ.

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    if whole is None:
        squares = dots(deltas, [(i, i) for i in range(n)])
    else:
        squares = whole.get(_group(tensor, granularity), [0.0] * n)
    total = math.fsum(squares)
    return weighted_sum(deltas, [lambda_ * (s / total if total else 1 / n) for s in squares])


def _group(tensor: str, granularity: Granularity) -> str:
    """What a tensor is weighed together with."""
    parts = split_layer(tensor) if granularity == "layer" else None
    if granularity == "model":
        return ""
    return tensor if parts is None else f"{parts[0]}{parts[1]}"
