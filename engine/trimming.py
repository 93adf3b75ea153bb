"""Trimming task vectors as TIES-Merging does: over the whole model, or each tensor for itself.

Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023. arXiv:2306.01708
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from engine.method import Look, PerModel, Seen, Tensors, per_model
from engine.ops import Largest, Sign, blocks, elect_signs
from engine.selection import Selected, select

Tie = Literal["majority", "positive", "drop"]
"""What becomes of an entry where neither sign wins."""

Of = Literal["all", "changed"]
"""What a density is a fraction of: all entries, or those that changed at all."""


@dataclass(frozen=True)
class Trimming:
    """What of the whole model is kept.

    Attributes:
        kept: each model's largest entries.
        majority: the sign that most entries elected: -1, 0 or 1.
    """

    kept: list[Selected]
    majority: int


def trimming(
    look: Look,
    *,
    weight: PerModel = 1.0,
    density: PerModel = 0.2,
    sign: Sign = "sum",
    tie: Tie = "majority",
) -> Trimming:
    """Find each model's largest entries over all tensors, and the sign that most entries elect."""
    kept = select(look, density)
    if tie != "majority" or not kept:
        return Trimming(kept, 0)
    weights = per_model(weight, len(kept))

    def votes(seen: Seen) -> int:
        flat = [delta.reshape(-1) for delta in seen.models]
        largest_of = [k.of(seen.tensor, values) for k, values in zip(kept, flat, strict=True)]
        signs = (
            elect_signs(trimmed(flat, largest_of, weights, block), sign)
            for block in blocks(len(flat[0]))
        )
        return sum(int(s.sum()) for s in signs)  # exact: fewer than 2²⁴ terms of size 1

    total = sum(found for _, found in look(votes))
    return Trimming(kept, (total > 0) - (total < 0))


def trimmed(
    flat: Tensors, kept: Sequence[Largest], weights: Sequence[float], block: slice
) -> list[torch.Tensor]:
    """A block of each task vector, trimmed and weighted."""
    parts = zip(flat, kept, weights, strict=True)
    return [k.keep(values[block], block.start).mul_(w) for values, k, w in parts]


def share_of(values: torch.Tensor, density: float, of: Of) -> float:
    """A density as the share of all entries."""
    if of == "all" or not len(values):
        return density
    k = max(1, int(density * int(torch.count_nonzero(values))))
    return (k + 0.5) / len(values)  # half an entry more, which `largest` rounds away
