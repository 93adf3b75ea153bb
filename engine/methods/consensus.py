"""Consensus merging: keep the entries that at least two tasks need, add the task vectors up.

Wang et al., "Localizing Task Information for Improved Model Merging and Compression", ICML 2024. arXiv:2405.07813
"""

import torch

from engine.method import Count, Lambda, Positive, Tensors, Weight, merge_method, per_model
from engine.ops import blocks


@merge_method(space="delta", scope="element", paper="2405.07813", anywhere=True)
def consensus(
    deltas: Tensors,
    *,
    weight: Weight = 1.0,
    lambda_: Lambda = 1.0,
    threshold: Positive = 0.4,
    at_least: Count = 2,
) -> torch.Tensor:
    """Add the task vectors up where enough tasks need an entry; elsewhere the base stays.

    With Δ = Σ w_i δ_i, task i needs an entry if |w_i δ_i| >= t |Δ - w_i δ_i|, the TALL mask; entries that fewer than
    ``at_least`` tasks need are selfish or catastrophic, and are dropped. The paper chooses t for each task on
    validation data, among 0.2 to 0.6. With fewer models than ``at_least`` all must need it. Laws: λ = 0 gives the
    base; one model is given back; ``at_least`` 0 is task arithmetic.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        weight: coefficient of each task vector, w_i.
        lambda_: scale of the merged task vector, λ.
        threshold: how large an entry must be against the others' sum to be needed, t.
        at_least: tasks that must need an entry.

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    weights = per_model(weight, n)
    flat = [delta.reshape(-1) for delta in deltas]
    merged = torch.zeros_like(flat[0])
    for block in blocks(merged):
        parts = [values[block] * w for values, w in zip(flat, weights, strict=True)]
        total = torch.zeros_like(parts[0])
        for part in parts:
            total += part
        votes = torch.zeros_like(total)
        for part in parts:
            votes += part.abs() >= (total - part).abs_().mul_(threshold)
        merged[block] = torch.where(votes >= min(at_least, n), total.mul_(lambda_), 0.0)
    return merged.reshape(deltas[0].shape)
