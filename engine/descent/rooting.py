"""Rooting: where a tree without directions begins, by all of its edges together.

One statistic for each edge, see `engine.descent.direction`, is a coin with a bias; a tree of ten edges is ten of them.
Besides, the base of a family is what most models were made from.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from engine.descent.bucket import Bucket
from engine.descent.direction import direction
from engine.descent.kind import change, kind_of
from engine.descent.tree import Tree


@dataclass(frozen=True)
class Oriented:
    """An edge with a direction.

    Attributes:
        child, parent: nodes of the tree.
        probability: of the direction, in [0, 1].
        statistic: see `engine.descent.direction`; 0 where there is none.
    """

    child: int
    parent: int
    probability: float
    statistic: float


def rooted(
    bucket: Bucket, tree: Tree, nodes: Collection[int], merges: Collection[int]
) -> list[Oriented]:
    """Give every edge of a tree, or of a forest, a direction.

    Args:
        bucket: all models.
        tree: its edges.
        nodes: its nodes, those without edges too.
        merges: which of them are merges, that have parents already.
    """
    told = {
        edge: _told(bucket, tree, *edge) if edge[1] < tree.n else _NOTHING for edge in tree.edges
    }
    oriented = []
    left = set(nodes)
    while left:
        part = _part(tree, min(left))
        left -= part
        edges = [e for e in tree.edges if e[0] in part]
        scores = {root: _score(edges, root, told, tree, merges) for root in sorted(part)}
        top = max(scores.values())
        total = sum(math.exp(s - top) for s in scores.values())
        chance = {r: math.exp(s - top) / total for r, s in scores.items()}
        root = max(sorted(part), key=lambda r: scores[r])
        for parent, child in _outward(edges, root):
            side = _side(edges, parent, child)
            edge = (min(parent, child), max(parent, child))
            t = told[edge].statistic if edge[0] == parent else -told[edge].statistic
            oriented.append(Oriented(child, parent, sum(chance[r] for r in side), t))
    return oriented


@dataclass(frozen=True)
class _Told:
    """What an edge says of its direction.

    Attributes:
        likelihood: logarithm of its ratio; above 0 the first node is the parent.
        statistic: of `direction`, if that was asked; else 0.
    """

    likelihood: float
    statistic: float = 0.0


_NOTHING = _Told(0.0)


def _told(bucket: Bucket, tree: Tree, a: int, b: int) -> _Told:
    """What tells which end of an edge is the parent: more tokens, the kind of change, else its directions.

    Nobody goes on from a copy with noise, or with something taken out: where one end has more neighbours, it is the
    parent; else energy tells, for noise adds its own, and an edit takes some away.
    """
    rows = bucket.rows[b] - bucket.rows[a]
    if rows:
        return _Told(math.copysign(_SURELY, rows))
    kind = kind_of(change(bucket, a, b))
    more = len(tree.neighbours(a)) - len(tree.neighbours(b))
    if more and kind.name in ("edited", "noise"):
        return _Told(math.copysign(_SURELY, more))
    grown = bucket.energy(bucket.values[b]) - bucket.energy(bucket.values[a])
    if kind.name == "edited":  # which takes energy away
        return _Told(math.copysign(_SURELY, -grown))
    if kind.name == "noise":  # which adds its own
        share = grown / max(float(bucket.distances[a, b]), 1e-300)
        return _Told(math.copysign(_SURELY, share)) if abs(share) > _ENOUGH else _NOTHING
    t = direction(bucket, a, b)
    return _Told(_likelihood(t), t)


_ENOUGH = 0.4
_SURELY = 8.0


def _part(tree: Tree, start: int) -> set[int]:
    """All nodes that hang together with one."""
    found, edge = {start}, [start]
    while edge:
        edge = [v for node in edge for v in tree.neighbours(node) if v not in found]
        found.update(edge)
    return found


def _outward(edges: Sequence[tuple[int, int]], root: int) -> list[tuple[int, int]]:
    """Edges as (parent, child), from the root on."""
    near: dict[int, list[int]] = {}
    for a, b in edges:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    found, seen, edge = [], {root}, [root]
    while edge:
        node = edge.pop(0)
        for other in sorted(near.get(node, ())):
            if other not in seen:
                seen.add(other)
                found.append((node, other))
                edge.append(other)
    return found


def _side(edges: Sequence[tuple[int, int]], parent: int, child: int) -> set[int]:
    """The nodes that stay with the parent when its edge to a child is cut."""
    rest = [e for e in edges if e != (min(parent, child), max(parent, child))]
    return {parent} | {v for pair in _outward(rest, parent) for v in pair}


def _score(
    edges: Sequence[tuple[int, int]], root: int, told: Mapping[tuple[int, int], _Told],
    tree: Tree, merges: Collection[int],
) -> float:  # fmt: skip
    """Log-likelihood of a root, but for what all have in common."""
    degree = sum(root in edge for edge in edges)
    total = _DEGREE * math.log1p(degree) + (_MERGE if root in merges else 0.0)
    total += _LATENT if root >= tree.n else 0.0
    for parent, child in _outward(edges, root):
        edge = (min(parent, child), max(parent, child))
        total += told[edge].likelihood if edge[0] == parent else -told[edge].likelihood
    return total


def _likelihood(t: float) -> float:
    """Log-likelihood ratio of a direction: t is about 1/2 along it, and anything where changes follow the weights."""

    def density(x: float) -> float:
        near = math.exp(-0.5 * ((x - _USUAL) / _SPREAD) ** 2) / _SPREAD
        wild = math.exp(-0.5 * (x / _WILD) ** 2) / _WILD
        return (1 - _WILDLY) * near + _WILDLY * wild

    return math.log(density(t) / density(-t))


_LATENT, _MERGE, _DEGREE = 1.0, 6.0, 6.0
_USUAL, _SPREAD, _WILD, _WILDLY = 0.5, 0.6, 8.0, 0.5
