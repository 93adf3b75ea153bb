"""Turned: tensors in another basis, whose units have changed places or were carried onto those of another network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from engine.parent import Parent
from engine.source import Made, Source

Axis = tuple[str, int]
"""A tensor and one of its axes."""


@dataclass(frozen=True)
class Turned(Made):
    """A tensor whose entries have changed places: entry i of an axis is the source's entry order[i].

    Attributes:
        orders: (axis, order), each axis once.
    """

    orders: tuple[tuple[int, tuple[int, ...]], ...]

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The tensor in its new order; see `Made.compute`."""
        (tensor,) = parts
        for axis, order in self.orders:
            tensor = tensor.index_select(axis, torch.tensor(order))
        return tensor


@dataclass(frozen=True)
class Carried(Made):
    """A tensor along whose axes every entry is a weighted sum of the source's entries; in float64.

    Attributes:
        maps: (axis, (n of the source, n here) float32), each axis once.
    """

    maps: tuple[tuple[int, torch.Tensor], ...] = field(compare=False)

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The tensor carried over; see `Made.compute`."""
        (tensor,) = parts
        made = tensor.double()
        for axis, weights in self.maps:
            made = torch.tensordot(made, weights.double(), dims=([axis], [0])).movedim(-1, axis)
        return made.float().contiguous()


def turned(
    parent: Parent, table: Mapping[str, Source], orders: Mapping[Axis, torch.Tensor]
) -> Parent:
    """A model whose tensors are in another order; one that stays as it is keeps its source.

    Args:
        parent: the model.
        table: its tensors by name.
        orders: new order of an axis.
    """
    made: dict[str, Source] = {}
    for name, axes in _by_tensor(orders):
        found = []
        for axis in axes:
            order = orders[name, axis].tolist()
            if order != list(range(len(order))):
                found.append((axis, tuple(order)))
        if found:
            source = table[name]
            made[name] = Turned(name, source.dtype, source.shape, (source,), tuple(found))
    return replace(parent, made={**parent.made, **made}) if made else parent


def carried(
    parent: Parent,
    table: Mapping[str, Source],
    maps: Mapping[Axis, torch.Tensor],
) -> Parent:
    """A model whose tensors are carried onto the units of another network.

    Args:
        parent: the model.
        table: its tensors by name.
        maps: of an axis, (n of the model, n of the other) float32.
    """
    made: dict[str, Source] = {}
    for name, axes in _by_tensor(maps):
        source = table[name]
        shape = list(source.shape)
        for axis in axes:
            shape[axis] = maps[name, axis].shape[1]
        found = tuple((axis, maps[name, axis]) for axis in axes)
        made[name] = Carried(name, source.dtype, tuple(shape), (source,), found)
    return replace(parent, made={**parent.made, **made})


def _by_tensor(axes: Iterable[Axis]) -> list[tuple[str, list[int]]]:
    """(tensor, its axes in order), by name."""
    found: dict[str, list[int]] = {}
    for name, axis in sorted(axes):
        found.setdefault(name, []).append(axis)
    return list(found.items())
