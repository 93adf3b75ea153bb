"""RAM: average what several models changed, take over what only one did.

As in mergekit, `ram`, after reinforced agent merging, "Behavior Knowledge Merge in Reinforced Agentic Models", 2026.
"""

import torch

from engine.method import Fraction, Tensors, merge_method
from engine.ops import blocks


@merge_method(
    space="delta", scope="element", paper="mergekit", compat={"mergekit": {}}, anywhere=True
)
def ram(deltas: Tensors, *, epsilon: Fraction = 1e-5) -> torch.Tensor:
    """Average each entry over the models that changed it.

    δ[j] = Σ δ_i[j] / n_j over the n_j models with |δ_i[j]| > ε. An entry that one model changed is not diluted by
    those that did not. Laws: one model, or n copies of it, give that model, up to changes of at most ε; the order
    does not matter, but for rounding.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        epsilon: a smaller change is none, ε.

    Returns:
        The merged task vector, (*shape) float32.
    """
    flat = [delta.reshape(-1) for delta in deltas]
    merged = torch.zeros_like(flat[0])
    for block in blocks(merged):
        divisor = torch.zeros_like(merged[block])
        for values in flat:
            changed = values[block].abs() > epsilon
            divisor += changed
            merged[block] += values[block] * changed
        merged[block] /= divisor.clamp_(min=1)
    return merged.reshape(deltas[0].shape)
