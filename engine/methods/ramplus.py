"""RAM+: average what several models changed, and strengthen what only one did by how much of it others share.

As in mergekit, `ramplus_tl`, where all counts are those of one tensor, after reinforced agent merging, "Behavior
Knowledge Merge in Reinforced Agentic Models", 2026.
"""

import numpy as np
import torch

from engine.method import Fraction, Positive, Tensors, merge_method
from engine.ops import TINY, blocks


@merge_method(space="delta", scope="tensor", paper="mergekit", compat={"mergekit": {}})
def ramplus(
    deltas: Tensors, *, r: Positive = 0.1, alpha: Positive = 0.2, epsilon: Fraction = 1e-5
) -> torch.Tensor:
    """Average each entry over the models that changed it; what one model alone changed is scaled up.

    A model with s entries of the tensor that others changed too and u that only it did has ρ = s / max(u, ε), and its
    own entries are multiplied with 1 + r min(ρ, α). Laws: one model, or n copies of it, give that model, up to
    changes of at most ε; r = 0 is RAM.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        r: strength of the scaling.
        alpha: largest ratio that counts.
        epsilon: a smaller change is none, ε.

    Returns:
        The merged task vector, (*shape) float32.
    """
    flat = [delta.reshape(-1) for delta in deltas]
    n_shared, n_unique = [0] * len(flat), [0] * len(flat)
    for block in blocks(len(flat[0])):
        changed = [values[block].abs() > epsilon for values in flat]
        counts = _count(changed)
        for i, own in enumerate(changed):
            n_unique[i] += int(np.count_nonzero((own & (counts == 1)).numpy()))
            n_shared[i] += int(np.count_nonzero((own & (counts > 1)).numpy()))
    ratios = [
        s / max(u, epsilon, TINY) if s else 0.0 for s, u in zip(n_shared, n_unique, strict=True)
    ]
    merged = torch.zeros_like(flat[0])
    for block in blocks(len(merged)):
        changed = [values[block].abs() > epsilon for values in flat]
        counts = _count(changed)
        for values, own, ratio in zip(flat, changed, ratios, strict=True):
            factor = torch.where(counts == 1, 1 + r * min(ratio, alpha), 1 / counts.clamp(min=1))
            merged[block] += values[block] * factor * own
    return merged.reshape(deltas[0].shape)


def _count(changed: Tensors) -> torch.Tensor:
    """How many models changed each entry, float32."""
    total = torch.zeros(changed[0].shape)
    for own in changed:
        total += own
    return total
