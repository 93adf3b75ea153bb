"""RAM+: average what several models changed, and strengthen what only one did by how much of it others share.

As in mergekit, `ramplus_tl`, where all counts are those of one tensor, after reinforced agent merging, "Behavior
Knowledge Merge in Reinforced Agentic Models", 2026.
"""

import numpy as np
import torch

from engine.method import Fraction, Look, Positive, Tensors, merge_method
from engine.ops import TINY, blocks


def counted(look: Look, *, epsilon: float = 1e-5) -> list[tuple[int, int]]:
    """Of each model, the entries that others changed too, and those that only it did."""
    found = [n for _, n in look(lambda seen: _shared_and_unique(seen.models, epsilon))]
    return [
        (sum(s for s, _ in column), sum(u for _, u in column))
        for column in zip(*found, strict=True)
    ]


@merge_method(
    space="delta", scope="tensor", paper="mergekit", survey=counted, anywhere=True,
    compat={"mergekit": {}},
)  # fmt: skip
def ramplus(
    deltas: Tensors,
    *,
    whole: list[tuple[int, int]] | None = None,
    r: Positive = 0.1,
    alpha: Positive = 0.2,
    epsilon: Fraction = 1e-5,
) -> torch.Tensor:
    """Average each entry over the models that changed it; what one model alone changed is scaled up.

    A model with s entries of the tensor that others changed too and u that only it did has ρ = s / max(u, ε), and its
    own entries are multiplied with 1 + r min(ρ, α). Laws: one model, or n copies of it, give that model, up to
    changes of at most ε; r = 0 is RAM.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        whole: the models' shared and own changes, from the survey; None: the tensors are whole.
        r: strength of the scaling.
        alpha: largest ratio that counts.
        epsilon: a smaller change is none, ε.

    Returns:
        The merged task vector, (*shape) float32.
    """
    flat = [delta.reshape(-1) for delta in deltas]
    known = _shared_and_unique(deltas, epsilon) if whole is None else whole
    ratios = [s / max(u, epsilon, TINY) if s else 0.0 for s, u in known]
    merged = torch.zeros_like(flat[0])
    for block in blocks(merged):
        changed = [values[block].abs() > epsilon for values in flat]
        counts = _count(changed)
        for values, own, ratio in zip(flat, changed, ratios, strict=True):
            factor = torch.where(counts == 1, 1 + r * min(ratio, alpha), 1 / counts.clamp(min=1))
            merged[block] += values[block] * factor * own
    return merged.reshape(deltas[0].shape)


def _shared_and_unique(deltas: Tensors, epsilon: float) -> list[tuple[int, int]]:
    """Of each model, the entries that others changed too, and those that only it did."""
    flat = [delta.reshape(-1) for delta in deltas]
    n_shared, n_unique = [0] * len(flat), [0] * len(flat)
    for block in blocks(flat[0]):
        changed = [values[block].abs() > epsilon for values in flat]
        counts = _count(changed)
        for i, own in enumerate(changed):
            n_unique[i] += int(np.count_nonzero((own & (counts == 1)).numpy()))
            n_shared[i] += int(np.count_nonzero((own & (counts > 1)).numpy()))
    return list(zip(n_shared, n_unique, strict=True))


def _count(changed: Tensors) -> torch.Tensor:
    """How many models changed each entry, float32."""
    total = torch.zeros_like(changed[0], dtype=torch.float32)
    for own in changed:
        total += own
    return total
