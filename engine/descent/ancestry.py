"""Ancestry: from models of one bucket to a graph of descent.

Merges first, for they bend every tree; then the least tree of what is left, with the parents that are missing; then
each model that is nearer to a merge than to the tree becomes its child; quantised and pruned models are leaves; then
each tree gets its root, and each edge a kind.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.descent.bucket import Bucket
from engine.descent.combination import Combination, combinations_of
from engine.descent.direction import direction
from engine.descent.kind import Kind, change, kind_of
from engine.descent.masked import Masked, masked
from engine.descent.piecewise import Piecewise, frankenmerge, piecewise
from engine.descent.tree import Tree, spanning, with_latent

Merge = Combination | Piecewise | Masked


@dataclass(frozen=True)
class Link:
    """An edge of the graph.

    Attributes:
        child, parent: nodes: places in the bucket, or latent ones behind them.
        kind: the relation, and what it rests on.
        coefficient: in a merge.
        role: parent, model or base.
        confidence: that edge and direction are right, in [0, 1].
        direction: the statistic; 0 where there is none.
    """

    child: int
    parent: int
    kind: Kind
    coefficient: float | None
    role: str
    confidence: float
    direction: float = 0.0


@dataclass
class Ancestry:
    """What was found.

    Attributes:
        links: all edges.
        latent: nodes that nobody has.
    """

    links: list[Link] = field(default_factory=list)
    latent: list[int] = field(default_factory=list)


def merges_of(bucket: Bucket, group: Sequence[int], leaves: Iterable[int]) -> dict[int, Merge]:
    """Models that are made of others: child → how."""
    among = [i for i in group if i not in set(leaves)]
    found: list[tuple[float, int, Merge]] = []
    for child in among:
        for exact in combinations_of(bucket, child, among)[:3]:
            found.append((exact.match, -len(exact.parents), exact))
    accepted: dict[int, Merge] = {}
    related: set[frozenset[int]] = set()
    for _, _, merge in sorted(found, key=lambda f: (-f[0], -f[1], f[2].child)):
        both = frozenset((merge.child, *merge.parents))
        if merge.child in accepted or both in related or _cycle(accepted, merge):
            continue
        accepted[merge.child] = merge
        related.add(both)
    for child in among:
        if child in accepted:
            continue
        others = [i for i in among if not _above(accepted, i, child)]
        merge = frankenmerge(bucket, child, others) or piecewise(bucket, child, others)
        if merge is not None and not _cycle(accepted, merge):
            accepted[child] = merge
    masks = []
    for child in among:
        if child not in accepted:
            others = [i for i in among if i not in accepted]
            merge = masked(bucket, child, others)
            if merge is not None:
                masks.append(merge)
    for merge in sorted(masks, key=lambda m: (-m.explained, m.child)):
        if not _cycle(accepted, merge):
            accepted[merge.child] = merge
    return accepted


def _above(accepted: dict[int, Merge], node: int, ancestor: int) -> bool:
    """Tell whether a node is made of another, over any number of merges."""
    if node == ancestor:
        return True
    merge = accepted.get(node)
    return merge is not None and any(_above(accepted, p, ancestor) for p in merge.parents)


def _cycle(accepted: dict[int, Merge], merge: Merge) -> bool:
    """Tell whether a merge is made of what is made of it."""
    return any(_above(accepted, parent, merge.child) for parent in merge.parents)


LEAVES = ("pruned", "quantized")
"""Kinds of models that others do not descend from; they are put on last."""


def ancestry(bucket: Bucket, group: Sequence[int]) -> Ancestry:
    """The graph of one component of a bucket, none of whose models equals another.

    Args:
        bucket: all models.
        group: places of the component's.
    """
    found = Ancestry()
    leaves = leaves_of(bucket, group)
    inner = [i for i in group if i not in leaves]
    merges = merges_of(bucket, inner, ())
    plain = [i for i in inner if i not in merges]
    tree = with_latent(spanning(bucket.costs, plain), bucket.gram)
    nodes = [*plain, *tree.latent]
    hang = _hung(bucket, tree, merges)
    for child, (parent, cut) in hang.items():
        if cut not in tree.edges:  # its other end hangs elsewhere already
            continue
        tree.edges.remove(cut)
        tree.edges.append((min(child, parent), max(child, parent)))
    found.latent = sorted(tree.latent)
    root, oriented = _rooted(bucket, tree, [*nodes, *merges], merges)
    for child, parent, sure, statistic in oriented:
        found.links.append(_link(bucket, child, parent, sure, statistic))
    for child, merge in sorted(merges.items()):
        found.links += _merge_links(merge)
    for leaf, parent in leaves.items():
        kind = kind_of(change(bucket, parent, leaf))
        found.links.append(Link(leaf, parent, kind, None, "parent", 0.97))
    return found


def leaves_of(bucket: Bucket, group: Sequence[int]) -> dict[int, int]:
    """Models that are others on a grid or with zeros: leaf → its parent."""
    found: dict[int, int] = {}
    for node in group:
        others = [i for i in group if i != node]
        if not others:
            continue
        near = min(others, key=lambda i: (bucket.costs[node, i], i))
        pruned = _unpruned(bucket, node, others)
        parent = near if pruned is None else pruned
        if kind_of(change(bucket, parent, node)).name in LEAVES:
            found[node] = parent
    for leaf in sorted(found):
        if found[leaf] in found:  # the parent of a leaf is none
            others = [i for i in group if i not in found]
            if others:
                found[leaf] = min(others, key=lambda i: (bucket.costs[leaf, i], i))
    return found


def _unpruned(bucket: Bucket, node: int, others: Sequence[int]) -> int | None:
    """The model that a node with many zeros equals where it has none; None where it has few."""
    counted = bucket.counts > 0
    own = bucket.values[node, counted]
    zero = own == 0
    if zero.mean() < 0.05:  # noqa: PLR2004 - not pruned
        return None
    return max(others, key=lambda i: float((bucket.values[i, counted][~zero] == own[~zero]).mean()))


def _hung(
    bucket: Bucket, tree: Tree, merges: dict[int, Merge]
) -> dict[int, tuple[int, tuple[int, int]]]:
    """Models that are nearer to a merge than to what the tree joins them with: child → (merge, the edge to cut)."""
    found: dict[int, tuple[int, tuple[int, int]]] = {}
    for merge in sorted(merges):
        above = set(merges[merge].parents)
        base = merges[merge].base
        above |= {base} if base is not None else set()
        for node in sorted({v for edge in tree.edges for v in edge if v < tree.n} - above):
            cut = _towards(tree, node, min(above))
            if cut is None:
                continue
            length = _length(bucket, tree, cut)
            near = bucket.distances[node, merge]
            if near < _NEARER * length and (node not in found or near < bucket.distances[node, found[node][0]]):
                found[node] = (merge, cut)
    return found


_NEARER = 0.8


def _towards(tree: Tree, node: int, goal: int) -> tuple[int, int] | None:
    """The first edge of the way from a node to another; None where there is no way."""
    via: dict[int, int] = {goal: goal}
    edge = [goal]
    while edge and node not in via:
        nearer = []
        for one in edge:
            for other in tree.neighbours(one):
                if other not in via:
                    via[other] = one
                    nearer.append(other)
        edge = nearer
    if node not in via or node == goal:
        return None
    return (min(node, via[node]), max(node, via[node]))


def _length(bucket: Bucket, tree: Tree, edge: tuple[int, int]) -> float:
    """Squared length of an edge."""
    a, b = edge
    if b >= tree.n:
        return tree.latent[b].get(a, math.inf)
    return float(bucket.distances[a, b])


def _rooted(
    bucket: Bucket, tree: Tree, nodes: Sequence[int], merges: dict[int, Merge]
) -> tuple[list[int], list[tuple[int, int, float, float]]]:
    """Roots, and edges as (child, parent, probability of the direction, statistic)."""
    statistics = {
        edge: direction(bucket, *edge) if edge[1] < tree.n else 0.0 for edge in tree.edges
    }
    roots, oriented = [], []
    left = set(nodes)
    while left:
        part = _part(tree, min(left))
        left -= part
        edges = [e for e in tree.edges if e[0] in part]
        scores = {root: _score(edges, root, statistics, tree, merges) for root in sorted(part)}
        top = max(scores.values())
        total = sum(math.exp(s - top) for s in scores.values())
        chance = {r: math.exp(s - top) / total for r, s in scores.items()}
        root = max(sorted(part), key=lambda r: scores[r])
        roots.append(root)
        for parent, child in _outward(edges, root):
            side = _side(edges, parent, child)
            edge = (min(parent, child), max(parent, child))
            t = statistics[edge] if edge[0] == parent else -statistics[edge]
            oriented.append((child, parent, sum(chance[r] for r in side), t))
    return roots, oriented


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
    edges: Sequence[tuple[int, int]], root: int, statistics: dict[tuple[int, int], float],
    tree: Tree, merges: dict[int, Merge],
) -> float:  # fmt: skip
    """Log-likelihood of a root, but for what all have in common."""
    total = _LATENT if root >= tree.n else 0.0
    total += _MERGE if root in merges else 0.0
    for parent, child in _outward(edges, root):
        edge = (min(parent, child), max(parent, child))
        t = statistics[edge] if edge[0] == parent else -statistics[edge]
        total += max(-_MOST, min(_MOST, _SLOPE * t))
    return total


_LATENT, _MERGE, _SLOPE, _MOST = 2.0, 6.0, 1.0, 3.0


def _link(bucket: Bucket, child: int, parent: int, sure: float, statistic: float) -> Link:
    """A link of the tree."""
    if max(child, parent) >= len(bucket):
        kind = Kind("finetune", "siblings", 0.0, "siblings of it stand 60 degrees apart", certain=False)
    else:
        kind = kind_of(change(bucket, parent, child))
    return Link(child, parent, kind, None, "parent", 0.98 * sure, statistic)


def _merge_links(merge: Merge) -> list[Link]:
    """The links of a merge to its parents."""
    negative = [p for p, w in zip(merge.parents, merge.weights, strict=True) if w < 0] if isinstance(merge, Combination) else []
    if negative and len(merge.parents) == 2:  # noqa: PLR2004 - away from a task vector, or farther along it
        detail = f"{merge.match:.1%} of the entries are {merge.weights[0]:g} of it and {merge.weights[1]:g} of another, rounded"
        kind = Kind("edited", "match", merge.match, detail, certain=True)
        return [
            Link(merge.child, p, kind, w, "parent" if w > 0 else "base", 0.97)
            for p, w in zip(merge.parents, merge.weights, strict=True)
        ]
    if isinstance(merge, Masked):
        weights, word, value = merge.scales, "explained_share", merge.explained
        detail = f"{merge.explained:.0%} of the entries are a parent's change at one scale, a sum, or none ({merge.dropped:.0%})"
        sure = 0.9
    else:
        weights, value, sure = merge.weights, merge.match, 0.99
        word = "match"
        detail = f"{merge.match:.1%} of the entries are the weighted sum of the parents, rounded"
    name = "frankenmerge" if isinstance(merge, Piecewise) and merge.whole else "merge"
    links = []
    for parent, weight in zip(merge.parents, weights, strict=True):
        role = "base" if parent == merge.base else "model"
        links.append(Link(merge.child, parent, Kind(name, word, value, detail, certain=True), weight, role, sure))
    return links
