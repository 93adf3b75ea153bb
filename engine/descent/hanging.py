"""Hanging: models that descend from a merge, taken from where the tree put them and hung under it."""

import math
from collections.abc import Mapping, Sequence

from engine.descent.bucket import Bucket
from engine.descent.merging import Merge
from engine.descent.tree import Tree


def hang(bucket: Bucket, tree: Tree, merges: Mapping[int, Merge]) -> None:
    """Join models to the merge they are nearer to than to what the tree joins them with; the tree is changed.

    Args:
        bucket: all models.
        tree: of those that are no merges.
        merges: child → how it was made.
    """
    for child, (parent, cut) in _hung(bucket, tree, merges).items():
        if cut in tree.edges:  # else its other end hangs elsewhere already
            tree.edges.remove(cut)
            tree.edges.append((min(child, parent), max(child, parent)))


def _hung(
    bucket: Bucket, tree: Tree, merges: Mapping[int, Merge]
) -> dict[int, tuple[int, tuple[int, int]]]:
    """Child → (merge, the edge to cut)."""
    found: dict[int, tuple[int, tuple[int, int]]] = {}
    near_all = tree.near()
    for merge in sorted(merges):
        above = _above(merges, merge)
        towards = {other: _towards(near_all, other) for other in sorted(above)}
        makers = sorted(above - set(merges))
        for node in sorted({v for v in near_all if v < tree.n} - above):
            cut = towards[makers[0]].get(node) if makers else None
            if cut is None:
                continue
            if len({ways[node] for ways in towards.values() if node in ways}) > 1:
                continue  # it is what holds them together, their base
            near = bucket.distances[node, merge]
            if _nearer(bucket, tree, node, merge, cut) and (
                node not in found or near < bucket.distances[node, found[node][0]]
            ):
                found[node] = (merge, cut)
    return found


_NEARER = 0.85


def _above(merges: Mapping[int, Merge], merge: int) -> set[int]:
    """What a merge is made of: parents and bases, theirs too where they are merges."""
    found: set[int] = set()
    left = [merge]
    while left:
        made = merges.get(left.pop())
        above = () if made is None else (*made.parents, made.base)
        new = {v for v in above if v is not None and v not in found}
        found |= new
        left += sorted(new)
    return found


def _towards(near: Mapping[int, Sequence[int]], goal: int) -> dict[int, tuple[int, int]]:
    """Every other node that has a way to one → the first edge of it.

    Args:
        near: the neighbours of each node of a tree, in order.
        goal: the one.
    """
    found: dict[int, tuple[int, int]] = {}
    edge = [goal]
    while edge:
        nearer = []
        for one in edge:
            for other in near.get(one, ()):
                if other != goal and other not in found:
                    found[other] = (min(one, other), max(one, other))
                    nearer.append(other)
        edge = nearer
    return found


def _nearer(bucket: Bucket, tree: Tree, node: int, merge: int, cut: tuple[int, int]) -> bool:
    """Tell whether a node is clearly nearer to a merge than to the other end of its edge."""
    a, b = cut
    others = (
        [b if node == a else a]
        if b < tree.n
        else [v for v in tree.neighbours(b) if v < tree.n and v != node]
    )
    least = min((float(bucket.costs[node, v]) for v in others), default=math.inf)
    return bool(bucket.costs[node, merge] < _NEARER * least)
