"""DARE-k: random entries of task vectors shrink to k times themselves, the others make up for it.

Yu et al., "A Unified View of Delta Parameter Editing in Post-Trained Large-Scale Models", 2024. arXiv:2410.13841
"""

import torch

from engine.draws import Draws
from engine.method import Density, Lambda, Scale, Tensors, Weight, merge_method, per_model
from engine.ops import blocks


@merge_method(space="delta", scope="element", paper="2410.13841", anywhere=True)
def dare_k(
    deltas: Tensors,
    *,
    draws: Draws,
    weight: Weight = 1.0,
    density: Density = 0.5,
    k: Scale = 0.5,
    lambda_: Lambda = 1.0,
) -> torch.Tensor:
    """Shrink random entries of each task vector to k times themselves, rescale the others, and add up.

    With p = 1 - density, an entry becomes k δ with probability p and (1 - k p) / (1 - p) δ otherwise: its expectation
    is δ for every k. k = 0 is DARE, k = 1 changes nothing; the authors try k from -1 to 1.5. Laws: density 1, or
    k = 1, is task arithmetic; λ = 0 gives the base.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        draws: random numbers of this slice.
        weight: coefficient of each task vector, w_i.
        density: probability that an entry is not shrunk, 1 - p.
        k: what an entry that is shrunk is multiplied with.
        lambda_: scale of the merged task vector, λ.

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    weights, densities = per_model(weight, n), per_model(density, n)
    flat = [delta.reshape(-1) for delta in deltas]
    merged = torch.zeros_like(flat[0])
    for block in blocks(merged):
        here = draws.at(draws.start + block.start)
        for i, values in enumerate(flat):
            kept, scale = densities[i], lambda_ * weights[i]
            stays = here.uniform(i, values[block].shape) < kept
            factor = torch.where(stays, scale * (1 - k * (1 - kept)) / kept, scale * k)
            merged[block] += factor.mul_(values[block])
    return merged.reshape(deltas[0].shape)
