"""What varies among models, and how much each of them weighs there, as SCE has it.

Wan et al., "FuseChat: Knowledge Fusion of Chat Models", 2024. arXiv:2408.07990
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import Look, Seen, Tensors
from engine.ops import blocks
from engine.products import SUMMED, block_dots
from engine.selected import Ask, Selected, largest_of
from engine.slices import shape_of

T = TypeVar("T")


@dataclass(frozen=True)
class Weights:
    """How much the models weigh.

    Attributes:
        values: w_i, one per model.
        selected: which entries are, by their variance; None: all.
    """

    values: list[float]
    selected: Selected | None


def weighed(look: Look, *, select_topk: float = 1.0, least: float = 0.0) -> Weights:
    """Select the entries that vary most, and weigh the models by their squares there."""
    selected = None
    if select_topk < 1:

        def varying(measure: Callable[[Seen], T], /, *, every: int = 1) -> Iterator[tuple[str, T]]:
            def of_variance(seen: Seen) -> T:
                return measure(Seen(seen.tensor, [_variance(seen.models)], start=seen.start))

            return look(of_variance, every=every)

        asked = Ask(0, lambda n: int(select_topk * n), changed=True)
        found = largest_of(varying, lambda _: [asked])
        selected = found[0] if found else None

    def squares(seen: Seen) -> tuple[int, Floats]:
        values = masked(seen.models, selected, seen.tensor, seen.start)
        pairs = [(i, i) for i in range(len(values))]
        return shape_of(seen.models).numel(), block_dots(values, pairs, SUMMED)

    looked = [found for _, found in look(squares)]
    n_entries = sum(n for n, _ in looked)
    sums = [math.fsum(column) for column in np.concatenate([rows for _, rows in looked]).T]
    total = sum(sums)
    uniform = total == 0 or total / max(1, n_entries) < least
    return Weights([1.0 / len(sums) if uniform else s / total for s in sums], selected)


def masked(deltas: Tensors, selected: Selected | None, tensor: str, start: int) -> Tensors:
    """Task vectors with 0 where an entry is not selected; themselves where all are."""
    if selected is None:
        return deltas
    variance = _variance(deltas)
    chosen = selected.of(tensor, lambda: variance, start).keep(variance) != 0
    return [delta.reshape(-1) * chosen for delta in deltas]


def _variance(deltas: Tensors) -> torch.Tensor:
    """The variance of each entry over the models, (d,) float32."""
    flat = [delta.reshape(-1) for delta in deltas]
    variance, n = torch.empty_like(flat[0]), flat[0].new_full((1,), len(flat), dtype=torch.float64)
    for block in blocks(variance):
        entries = [values[block].double() for values in flat]
        mean = _sum(entries).div_(n)
        for each in entries:
            each.sub_(mean)
            each.mul_(each)
        variance[block] = _sum(entries).div_(n)
    return variance


def _sum(entries: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum over the models, in their order."""
    total = torch.zeros_like(entries[0])
    for each in entries:
        total += each
    return total
