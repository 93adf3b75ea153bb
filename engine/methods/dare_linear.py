"""DARE: drop entries of task vectors at random, rescale the rest, add them up.

Yu et al., "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch", ICML 2024.
arXiv:2311.03099
"""

import torch

from engine.draws import Draws
from engine.method import Density, Lambda, Tensors, Weight, merge_method, per_model
from engine.ops import blocks, drop


@merge_method(space="delta", scope="element", paper="2311.03099")
def dare_linear(
    deltas: Tensors,
    *,
    draws: Draws,
    weight: Weight = 1.0,
    density: Density = 0.5,
    lambda_: Lambda = 1.0,
    rescale: bool = True,
) -> torch.Tensor:
    """Drop random entries of each task vector, rescale those that stay, and add the task vectors to the base.

    δ = λ Σ w_i m_i ⊙ δ_i / p_i, where each entry of the mask m_i is 1 with probability p_i = density. The paper
    counts what is dropped: its p is 1 - density. The division keeps the expectation; mergekit divides by what the
    drawn mask left of the L1 norm instead. Laws: density 1 is task arithmetic; λ = 0 gives the base.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        draws: random numbers of this slice.
        weight: coefficient of each task vector, w_i.
        density: probability that an entry stays.
        lambda_: scale of the merged task vector, λ.
        rescale: divide by the density.

    Returns:
        The merged task vector, (*shape) float32.
    """
    n = len(deltas)
    densities = per_model(density, n)
    scales = [
        lambda_ * w / (p if rescale else 1.0)
        for w, p in zip(per_model(weight, n), densities, strict=True)
    ]
    flat = [delta.reshape(-1) for delta in deltas]
    merged = torch.zeros_like(flat[0])
    for block in blocks(len(merged)):
        here = draws.at(draws.start + block.start)
        for i, values in enumerate(flat):
            merged[block] += drop(values[block], i, densities[i], here).mul_(scales[i])
    return merged.reshape(deltas[0].shape)
