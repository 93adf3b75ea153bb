"""Trimming task vectors as TIES-Merging does: over the whole model, or each tensor for itself.

Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023. arXiv:2306.01708
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from engine.method import Look, PerModel, Seen, Tensors, per_model
from engine.ops import Sign, votes
from engine.pick import Largest
from engine.selected import Selected, select

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
    of: Of = "all",
) -> Trimming:
    """Find each model's largest entries over all slices, and the sign that most entries elect."""
    kept = select(look, density, changed=of == "changed")
    if tie != "majority" or not kept:
        return Trimming(kept, 0)
    weights = per_model(weight, len(kept))

    def elect(seen: Seen) -> int:
        picks = picked(kept, seen.models, seen.tensor, seen.start)
        return votes(seen.models, weights, picks, sign)

    total = sum(found for _, found in look(elect))
    return Trimming(kept, (total > 0) - (total < 0))


def picked(kept: Sequence[Selected], tensors: Tensors, tensor: str, start: int) -> list[Largest]:
    """What each model keeps of a slice, of its entries from flat index ``start`` on."""
    return [k.of(tensor, partial(tensors.__getitem__, i), start) for i, k in enumerate(kept)]
