"""Order statistics of a whole model, exact, without ever holding it: by counting the bits of its numbers.

A float32 as an unsigned integer, with the sign turned round, sorts as the number does. One look at all tensors counts
its upper 16 bits, a second one the lower 16 of the numbers that share the upper ones of the statistic asked for.
Counts are whole numbers, so that neither threads nor slices nor the order of tensors can change a result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from engine.method import Look, PerModel, Seen, per_model
from engine.ops import Largest, blocks

_HALF = 1 << 16
_SIGN = np.uint32(1 << 31)

Counts = NDArray[np.int64]
Scores = Callable[[Seen], Sequence[torch.Tensor]]
"""A number for every entry of a tensor and each of n series: n flat float32 tensors."""

Places = Callable[[int], Sequence[int]]
"""From the number of entries of the whole model to the places (0 for the smallest) whose values are asked for."""


def order_statistics(look: Look, scores: Scores, places: Places) -> list[list[float]]:
    """The values at some places of each sorted series, over the whole model.

    Args:
        look: at every tensor; is used twice.
        scores: of a tensor.
        places: the same for every series; those outside of the model are moved into it.

    Returns:
        For each series the value at each place; none for a model without entries.
    """
    upper = _total(look, lambda seen: [_count(s, None) for s in scores(seen)])
    if not upper or not upper[0].sum():
        return [[] for _ in upper]
    size = int(upper[0].sum())
    asked = [min(max(0, place), size - 1) for place in places(size)]
    found = [[_bin(counts, place) for place in asked] for counts in upper]
    halves = [sorted({half for half, _ in series}) for series in found]

    def lower(seen: Seen) -> list[Counts]:
        made = []
        for series, wanted in zip(scores(seen), halves, strict=True):
            made += [_count(series, half) for half in wanted]
        return made

    counted = iter(_total(look, lower))
    tables = [{half: next(counted) for half in wanted} for wanted in halves]
    return [
        [_value(half, _bin(table[half], rest)[0]) for half, rest in series]
        for series, table in zip(found, tables, strict=True)
    ]


@dataclass(frozen=True)
class Selected:
    """The largest entries of a whole model, by magnitude: exactly as many as were asked for.

    Attributes:
        threshold: magnitude of the smallest of them.
        ties: tensor → how many of its entries of exactly that magnitude belong to them; the first ones.
    """

    threshold: float
    ties: dict[str, int] = field(default_factory=dict)

    def of(self, tensor: str, values: torch.Tensor) -> Largest:
        """What one tensor keeps; ``values`` are all of its entries, flat float32."""
        if self.threshold == 0:
            return Largest(0.0, len(values))
        left = self.ties.get(tensor, 0)
        for block in blocks(len(values)):
            places = (values[block].abs() == self.threshold).nonzero()
            if len(places) >= left > 0:
                return Largest(self.threshold, block.start + int(places[left - 1]) + 1)
            left -= len(places)
        return Largest(self.threshold, 0)


def select(look: Look, density: PerModel) -> list[Selected]:
    """The int(density · d) largest entries of each model, at least one, of its d; of equal ones the first by tensor.

    Args:
        look: at every tensor; is used three times.
        density: in (0, 1], for all models or one per model.

    Returns:
        One per model.
    """
    shares = sorted({density} if isinstance(density, float | int) else set(density))
    cut = order_statistics(
        look, _magnitudes, lambda size: [size - max(1, int(share * size)) for share in shares]
    )
    if not any(cut):
        return [Selected(0.0) for _ in cut]
    densities = per_model(density, len(cut))
    thresholds = [row[shares.index(share)] for row, share in zip(cut, densities, strict=True)]

    def count(seen: Seen) -> list[tuple[int, int, int]]:
        return [
            (len(v), int((v > t).count_nonzero()), int((v == t).count_nonzero()))
            for v, t in zip(_magnitudes(seen), thresholds, strict=True)
        ]

    counted = list(look(count))
    chosen = []
    for i, (threshold, share) in enumerate(zip(thresholds, densities, strict=True)):
        size = sum(found[i][0] for _, found in counted)
        left = max(1, int(share * size)) - sum(found[i][1] for _, found in counted)
        ties: dict[str, int] = {}
        for tensor, found in counted:
            ties[tensor] = min(left, found[i][2])
            left -= ties[tensor]
        chosen.append(Selected(threshold, ties))
    return chosen


def _magnitudes(seen: Seen) -> list[torch.Tensor]:
    """The magnitudes of each model's entries, flat."""
    return [model.reshape(-1).abs() for model in seen.models]


def _total(look: Look, measure: Callable[[Seen], list[Counts]]) -> list[Counts]:
    """Counts of all tensors together."""
    total: list[Counts] = []
    for _, counts in look(measure):
        total = counts if not total else [a + b for a, b in zip(total, counts, strict=True)]
    return total


def _keys(values: torch.Tensor) -> NDArray[np.uint32]:
    """Numbers as unsigned integers of the same order; -0 counts as 0."""
    bits = (values + 0.0).numpy().view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _count(values: torch.Tensor, upper: int | None) -> Counts:
    """How often each upper half of the keys occurs, or each lower half of those keys that have this ``upper`` one."""
    counts = np.zeros(_HALF, np.int64)
    for block in blocks(len(values)):
        keys = _keys(values[block])
        if upper is None:
            halves = keys >> np.uint32(16)
        else:
            halves = keys[keys >> np.uint32(16) == upper] & np.uint32(_HALF - 1)
        counts += np.bincount(halves, minlength=_HALF)
    return counts


def _bin(counts: Counts, place: int) -> tuple[int, int]:
    """The number at a place of the sorted whole, and how many of the same stand before it."""
    ends = counts.cumsum()
    found = int(np.searchsorted(ends, place, side="right"))
    return found, place - int(ends[found] - counts[found])


def _value(upper: int, lower: int) -> float:
    """The number with this key."""
    key = np.uint32((upper << 16) | lower)
    bits = key & ~_SIGN if key & _SIGN else ~key
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])
