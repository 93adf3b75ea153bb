"""Bases: components that have nothing in common entry by entry, and are one network in two bases all the same."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.descent.invariant import Values, distance, off_diagonal, tells
from engine.descent.sketch import Sketch

TURNED = 0.12
"""Distance of invariants up to which two models are one network in two bases."""


@dataclass(frozen=True)
class Turn:
    """A component that is another one in another basis.

    Attributes:
        child: the model that is nearest to the other component; what it is the root of hangs on that.
        parent: the nearest model there.
        distance: of their invariants.
    """

    child: str
    parent: str
    distance: float


def turns(parts: Sequence[tuple[Sequence[Sketch], str]]) -> list[Turn]:
    """Find components that are another one in another basis; the smaller hangs on the larger.

    Args:
        parts: models of each component, and its root's id.
    """
    order = sorted(range(len(parts)), key=lambda i: (len(parts[i][0]), parts[i][1]))
    models = [sketch for i in order for sketch in parts[i][0]]
    sizes = [len(parts[i][0]) for i in order]
    owners = np.repeat(np.arange(len(order)), sizes)
    # what is as near as can be told is taken in order
    apart = np.round(distances([sketch.invariants for sketch in models]), _DIGITS)
    joined = np.zeros(len(order), bool)
    found = []
    for part, size in enumerate(sizes):
        own, others = np.flatnonzero(owners == part), np.flatnonzero(owners != part)
        others = others[~joined[owners[others]]]
        table = apart[np.ix_(others, own)]
        least = table.min(initial=np.inf)
        if least > TURNED:
            continue
        of, one = np.argwhere(table == least)[0]
        other = int(others[of])
        if size <= sizes[owners[other]]:
            joined[part] = True
            child, parent = models[own[one]], models[other]
            exact = distance(child.invariants, parent.invariants)
            found.append(Turn(child.model, parent.model, exact))
    return found


_DIGITS = 9
_NEAR = 1e-6  # of the squared lengths; below it a difference of products has lost its digits


def distances(models: Sequence[dict[str, Values]]) -> NDArray[np.float64]:
    """How far invariants are apart, of every two models: (n, n), as `engine.descent.invariant.distance`."""
    apart = np.ones((len(models), len(models)))
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for i, invariants in enumerate(models):
        for name, values in invariants.items():
            if tells(values):
                groups[name, len(values)].append(i)
    for (name, _), places in sorted(groups.items()):
        parts = np.array([off_diagonal(models[i][name]) for i in places])
        sizes = np.square(parts).sum(1)
        both = sizes[:, None] + sizes[None, :]
        squares = np.maximum(both - 2 * (parts @ parts.T), 0.0)
        near = squares <= _NEAR * both
        for row in np.flatnonzero(near.sum(1) > 1):
            squares[row, near[row]] = np.square(parts[near[row]] - parts[row]).sum(1)
        np.fill_diagonal(squares, 0.0)
        product = np.sqrt(np.outer(sizes, sizes))
        ratio = np.divide(squares, product, out=np.ones_like(squares), where=product > 0)
        index = np.ix_(places, places)
        apart[index] = np.minimum(apart[index], np.sqrt(ratio))
    return apart
