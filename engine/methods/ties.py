"""TIES-Merging: trim, elect sign, disjoint merge.

Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023. arXiv:2306.01708
"""

from typing import Literal

import torch

from engine.method import Density, Lambda, Tensors, Weight, merge_method, per_model
from engine.ops import Sign, agreeing_mean, blocks, elect_signs, largest, settle_ties


@merge_method(space="delta", scope="tensor", paper="2306.01708")
def ties(
    deltas: Tensors,
    *,
    weight: Weight = 1.0,
    density: Density = 0.2,
    lambda_: Lambda = 1.0,
    normalize: bool = True,
    sign: Sign = "sum",
    tie: Literal["majority", "positive", "drop"] = "majority",
) -> torch.Tensor:
    """Keep each task vector's largest entries, elect a sign for every entry, average the entries that agree with it.

    Trimming and majority are those of one tensor, as in MergeLLM and mergekit; the paper's code takes the whole
    model. Exactly int(density · d) entries stay, at least one, and of equal ones the first; the paper's code keeps
    one more, and all ties. Weights multiply before the election, as in mergekit; equal ones are the paper's.
    Laws: λ = 0 gives the base; one model at density 1 gives that model.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        weight: coefficient of each task vector, w_i.
        density: fraction of entries each task vector keeps, by magnitude.
        lambda_: scale of the merged task vector, λ.
        normalize: divide by the weights of the models that agree; without it, the agreeing entries are summed.
        sign: elected by the sum of values, as in the paper, or by the count of signs.
        tie: where neither sign wins, take the sign that most entries of the tensor elected, as in the paper, or the
            positive one, as mergekit does, or drop the entry.

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    weights, densities = per_model(weight, n), per_model(density, n)
    flat = [delta.reshape(-1) for delta in deltas]
    merged = torch.empty_like(flat[0])
    kept = [largest(flat[i], densities[i], merged) for i in range(n)]

    def trimmed(block: slice) -> list[torch.Tensor]:
        return [kept[i].keep(flat[i][block], block.start).mul_(weights[i]) for i in range(n)]

    majority = 0
    for block in blocks(len(merged)):
        merged[block] = elect_signs(trimmed(block), sign)
        majority += int(merged[block].sum())  # exact: fewer than 2²⁴ terms of size 1
    winner = {"majority": (majority > 0) - (majority < 0), "positive": 1, "drop": 0}[tie]
    for block in blocks(len(merged)):
        signs = settle_ties(merged[block].clone(), winner)
        mean = agreeing_mean(trimmed(block), signs, weights, normalize=normalize)
        torch.mul(mean, lambda_, out=merged[block])
    return merged.reshape(deltas[0].shape)
