"""Stacking: models whose layers are layers of another model, repeated, left out or in another order."""

from dataclasses import dataclass

import numpy as np

from engine.descent.patch import Layout, Patch, inside, overlap
from engine.descent.pile import Floats
from engine.descent.sketch import Sketch
from registry.tensor_name import split_layer

_ALIKE = 0.95
"""Cosine from which on a layer is taken for another's."""


@dataclass(frozen=True)
class Stack:
    """How a model is made of another's layers.

    Attributes:
        layers: of each of its layers, the other's it was taken from.
        distance: mean relative squared distance of what it took.
        exact: share of the layers that are equal.
    """

    layers: tuple[int, ...]
    distance: float
    exact: float


def is_stackable(child: Layout, parent: Layout) -> bool:
    """Tell whether a model's layers may be another's: it has more of them or fewer, of the same tensors and shapes."""
    if len(child.layers) in (0, len(parent.layers)):
        return False
    return set(child.layers) <= set(parent.layers)


def stacked(child: Sketch, parent: Sketch) -> Stack | None:
    """The layers of a parent that a child of another depth is made of; None where it is not.

    Args:
        child: the deeper one, or one with fewer layers.
        parent: of another number of layers.
    """
    if not is_stackable(child.layout, parent.layout):
        return None
    ours, theirs = _layers(child), _layers(parent)
    found: list[int] = []
    distances: list[float] = []
    for layer in sorted(ours):
        scored = [(_compare(ours[layer], theirs[other]), other) for other in sorted(theirs)]
        near = [(distance, other) for (cosine, distance), other in scored if cosine >= _ALIKE]
        if not near:
            return None
        distance, other = min(near)
        found.append(other)
        distances.append(distance)
    exact = float(np.mean([d == 0 for d in distances]))
    return Stack(tuple(found), float(np.mean(distances)), exact)


def _layers(sketch: Sketch) -> dict[int, dict[str, tuple[Patch, Floats]]]:
    """Layer → name within it → patch and values; matrices only."""
    found: dict[int, dict[str, tuple[Patch, Floats]]] = {}
    at = 0
    for patch in sketch.layout.patches:
        parts = split_layer(patch.tensor)
        if parts is not None and not patch.is_vector:
            values = sketch.values[at : at + patch.size].astype(np.float64)
            found.setdefault(parts[1], {})[f"{parts[0]}.{parts[2]}"] = (patch, values)
        at += patch.size
    return found


def _compare(
    ours: dict[str, tuple[Patch, Floats]], theirs: dict[str, tuple[Patch, Floats]]
) -> tuple[float, float]:
    """Cosine of two layers, and their relative squared distance; (0, 1) where their tensors differ in name or shape."""
    if ours.keys() != theirs.keys():
        return 0.0, 1.0
    a = [ours[name] for name in sorted(ours)]
    b = [theirs[name] for name in sorted(ours)]
    parts = [(x, y, overlap(x[0], y[0])) for x, y in zip(a, b, strict=True)]
    if any(part is None or x[0].shape != y[0].shape for x, y, part in parts):
        return 0.0, 1.0
    one = np.concatenate([x[1][inside(part, x[0])] for x, _, part in parts if part])
    other = np.concatenate([y[1][inside(part, y[0])] for _, y, part in parts if part])
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    if size == 0:
        return 0.0, 1.0
    return float(one @ other) / size, float(np.square(one - other).sum()) / size
