"""Naming: which tensor of one model is which of another that calls them otherwise, by their values."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from engine.descent.patch import Layout, Patch, inside, overlap
from engine.descent.pile import Floats
from engine.descent.sketch import Sketch

_LEAST_COSINE = 0.3  # of matrices that are the same tensor, in the mean; of others it is about 0


def called_as(sketch: Sketch, other: Sketch) -> Sketch | None:
    """A sketch under another's tensor names; None where their tensors are not each other's.

    Every tensor takes the name of the nearest of its shape that is still free, matrices and vectors alike;
    those whose patches lie elsewhere, as of a vocabulary that only one of the names tells, are left out.
    """
    ours, theirs = _by_shape(sketch), _by_shape(other)
    if {k: len(v) for k, v in ours.items()} != {k: len(v) for k, v in theirs.items()}:
        return None
    names: dict[str, tuple[Patch, Patch, Patch]] = {}
    cosines: list[float] = []
    for shape, parts in ours.items():
        found, near = _matched(parts, theirs[shape])
        for (patch, _), j in zip(parts, found, strict=True):
            of = theirs[shape][j][0]
            common = overlap(replace(patch, tensor=of.tensor), of)
            if common is not None:
                names[patch.tensor] = (common, patch, of)
        if not parts[0][0].is_vector:
            cosines += near
    if not cosines or float(np.mean(cosines)) < _LEAST_COSINE:
        return None
    order = sorted(names, key=lambda name: names[name][0].tensor)
    starts, at = {}, 0
    for patch in sketch.layout.patches:
        starts[patch.tensor] = at
        at += patch.size
    values = np.concatenate([
        sketch.values[starts[name] + inside(names[name][0], names[name][1])] for name in order
    ])  # fmt: skip
    layout = Layout(tuple(names[name][0] for name in order))
    return replace(sketch, layout=layout, held=values, own_names=tuple(order))


def _by_shape(sketch: Sketch) -> dict[tuple[int, int, bool], list[tuple[Patch, Floats]]]:
    """Patches by the shape of their tensors, with their values."""
    found: dict[tuple[int, int, bool], list[tuple[Patch, Floats]]] = defaultdict(list)
    at = 0
    for p in sketch.layout.patches:
        found[*p.shape, p.is_vector].append((p, sketch.values[at : at + p.size].astype(np.float64)))
        at += p.size
    return found


def _matched(
    ours: list[tuple[Patch, Floats]], theirs: list[tuple[Patch, Floats]]
) -> tuple[list[int], list[float]]:
    """For each of ours the place of one of theirs, the nearest pairs first, and the cosine of each pair."""
    apart = np.full((len(ours), len(theirs)), np.inf)
    cosine = np.zeros((len(ours), len(theirs)))
    for i, (p, a) in enumerate(ours):
        for j, (q, b) in enumerate(theirs):
            common = overlap(p, q)
            if common is not None:
                one, other = a[inside(common, p)], b[inside(common, q)]
                norm = float(np.linalg.norm(one) * np.linalg.norm(other))
                apart[i, j] = float(np.square(one - other).mean())
                cosine[i, j] = float(one @ other) / norm if norm else 0.0
    found, taken = [-1] * len(ours), set()
    for flat in np.argsort(apart, axis=None, kind="stable").tolist():
        i, j = divmod(flat, len(theirs))
        if found[i] < 0 and j not in taken:
            found[i] = j
            taken.add(j)
    return found, [float(cosine[i, j]) for i, j in enumerate(found)]
