"""TIES-Merging: trim, elect sign, disjoint merge.

Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023. arXiv:2306.01708
"""

from typing import Literal

import torch

from engine.method import (
    Density,
    Lambda,
    Seen,
    Tensors,
    Weight,
    alone,
    merge_method,
    per_model,
)
from engine.ops import Sign, agreement
from engine.trimming import Of, Tie, Trimming, picked, trimming


@merge_method(
    ends_in_sum=True,
    space="delta",
    scope="model",
    paper="2306.01708",
    survey=trimming,
    compat={"mergekit": {"scope": "tensor", "density": 1.0, "tie": "positive"}},
)
def ties(
    deltas: Tensors,
    *,
    tensor: str = "",
    whole: Trimming | None = None,
    start: int = 0,
    weight: Weight = 1.0,
    density: Density = 0.2,
    lambda_: Lambda = 1.0,
    normalize: bool = True,
    sign: Sign = "sum",
    tie: Tie = "majority",
    scope: Literal["model", "tensor"] = "model",  # noqa: ARG001 - read by the engine, which surveys the model or the tensor
    of: Of = "all",
) -> torch.Tensor:
    """Keep each task vector's largest entries, elect a sign for every entry, average the entries that agree with it.

    Trimming and majority are those of the whole model, as in the paper's code, or of one tensor, as in MergeLLM and
    mergekit. Exactly int(density · d) entries stay, at least one, and of equal ones the first, by tensor and place; the
    paper's code keeps one more, and all ties. Weights multiply before the election, as in mergekit; equal ones are
    the paper's. Laws: λ = 0 gives the base; one model at density 1 gives that model.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        whole: what the survey found; None: the tensors are whole, and trimmed for themselves.
        start: flat index of the first entry.
        weight: coefficient of each task vector, w_i.
        density: fraction of entries each task vector keeps, by magnitude.
        lambda_: scale of the merged task vector, λ.
        normalize: divide by the weights of the models that agree; without it, the agreeing entries are summed.
        sign: elected by the sum of values, as in the paper, or by the count of signs.
        tie: where neither sign wins, take the sign that most entries elected, as in the paper, or the positive one,
            as mergekit does, or drop the entry.
        scope: trim and count the whole model, or each tensor.
        of: what the density is a fraction of where each tensor is trimmed: all entries, or those that changed at all.

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    weights = per_model(weight, n)
    if whole is None:
        look = alone(Seen(tensor, deltas))
        whole = trimming(look, weight=weight, density=density, sign=sign, tie=tie, of=of)
    return agreement(
        deltas, weights, picks=picked(whole.kept, deltas, tensor, start), sign=sign,
        winner={"majority": whole.majority, "positive": 1, "drop": 0}[tie],
        normalize=normalize, lambda_=lambda_,
    )  # fmt: skip
