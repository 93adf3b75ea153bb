"""Order statistics of a whole model, exact, without ever holding it: by counting the bits of its numbers.

A float32 as an unsigned integer, with the sign turned round, sorts as the number does. One look at all tensors counts
its upper 16 bits, a second one the lower 16 of the numbers that share the upper ones of the statistic asked for.
Counts are whole numbers, so that neither threads nor slices nor the order of tensors can change a result.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from engine.method import Look, Seen
from engine.ops import blocks

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
    upper = summed(look, lambda seen: [_count(s, None) for s in scores(seen)])
    if not upper or not upper[0].sum():
        return [[] for _ in upper]
    size = int(upper[0].sum())
    asked = [min(max(0, place), size - 1) for place in places(size)]
    found = [[_place_of(counts, place) for place in asked] for counts in upper]
    halves = [sorted({half for half, _ in series}) for series in found]

    def lower(seen: Seen) -> list[Counts]:
        made = []
        for series, wanted in zip(scores(seen), halves, strict=True):
            made += [_count(series, half) for half in wanted]
        return made

    counted = iter(summed(look, lower))
    tables = [{half: next(counted) for half in wanted} for wanted in halves]
    return [
        [_value(half, _place_of(table[half], rest)[0]) for half, rest in series]
        for series, table in zip(found, tables, strict=True)
    ]


def summed(look: Look, measure: Callable[[Seen], list[Counts]]) -> list[Counts]:
    """Counts of all slices together, added up as they come; none where there is no slice."""
    total: list[Counts] = []
    for _, counts in look(measure):
        if not total:
            total = counts
            continue
        for sums, own in zip(total, counts, strict=True):
            np.add(sums, own, out=sums)
    return total


def _keys(values: torch.Tensor) -> NDArray[np.uint32]:
    """Numbers as unsigned integers of the same order; -0 counts as 0."""
    bits = (values + 0.0).numpy().view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _count(values: torch.Tensor, upper: int | None) -> Counts:
    """How often each upper half of the keys occurs, or each lower half of those keys that have this ``upper`` one."""
    counts = np.zeros(_HALF, np.int64)
    for block in blocks(values):
        keys = _keys(values[block])
        if upper is None:
            halves = keys >> np.uint32(16)
        else:
            halves = keys[keys >> np.uint32(16) == upper] & np.uint32(_HALF - 1)
        counts += np.bincount(halves, minlength=_HALF)
    return counts


def found_at(counts: Counts, places: Counts) -> tuple[Counts, Counts]:
    """The numbers at places of the sorted whole, and how many of the same stand before each.

    Args:
        counts: how often each number occurs, (numbers,).
        places: 0 for the smallest, (n,), all inside of the whole.

    Returns:
        Two times (n,).
    """
    ends = counts.cumsum()
    found = np.searchsorted(ends, places, side="right").astype(np.int64)
    before: Counts = places - ends[found] + counts[found]
    return found, before


def _place_of(counts: Counts, place: int) -> tuple[int, int]:
    """`found_at` one place."""
    (found,), (before,) = found_at(counts, np.array([place]))
    return int(found), int(before)


def _value(upper: int, lower: int) -> float:
    """The number with this key."""
    key = np.uint32((upper << 16) | lower)
    bits = key & ~_SIGN if key & _SIGN else ~key
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])
