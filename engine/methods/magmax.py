"""MagMax: of each entry, the largest change any model made.

Marczak et al., "MagMax: Leveraging Model Merging for Seamless Continual Learning", ECCV 2024. arXiv:2407.06322
"""

import torch

from engine.method import Lambda, Tensors, merge_method
from engine.ops import blocks


@merge_method(space="delta", scope="element", paper="2407.06322", anywhere=True)
def magmax(deltas: Tensors, *, lambda_: Lambda = 0.5) -> torch.Tensor:
    """Take each entry from the model that changed it most.

    δ[j] = λ δ_t[j] with t the model of the largest |δ_t[j]|; of equal ones the last, as in the authors' code. Laws:
    λ = 0 gives the base; one model at λ = 1 is given back.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        lambda_: scale of the merged task vector, λ.

    Returns:
        The merged task vector, (*shape) float32.
    """
    flat = [delta.reshape(-1) for delta in deltas]
    merged = torch.empty_like(flat[0])
    for block in blocks(merged):
        best = flat[0][block]
        for values in flat[1:]:
            best = torch.where(values[block].abs() >= best.abs(), values[block], best)
        torch.mul(best, lambda_, out=merged[block])
    return merged.reshape(deltas[0].shape)
