"""Trees: the least that connects kin, by what it costs to tell each from the next.

What training adds is close to orthogonal to what it added before, so costs grow along edges, and the minimum spanning
tree is the tree of descent without its directions. Where the parent itself is missing, siblings are joined to each
other: seen from one of them the others have its own change in common, and a latent parent takes the middle.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from engine.descent.pile import Floats

SIBLING = 0.15
"""Likeness of two differences to one model, from which on all three are siblings; see `engine.descent.likeness`."""


@dataclass
class Tree:
    """Edges without direction among models, and parents that nobody has.

    Attributes:
        edges: pairs of nodes, the smaller first; nodes from ``n`` on are latent.
        n: models of the bucket.
        latent: node → squared distances from it to its neighbours.
    """

    n: int
    edges: list[tuple[int, int]] = field(default_factory=list)
    latent: dict[int, dict[int, float]] = field(default_factory=dict)

    def neighbours(self, node: int) -> list[int]:
        """Nodes that share an edge with one, in order."""
        return sorted(b if a == node else a for a, b in self.edges if node in (a, b))

    def near(self) -> dict[int, list[int]]:
        """Every node that has an edge → its neighbours, in order."""
        found: dict[int, list[int]] = {}
        for a, b in self.edges:
            found.setdefault(a, []).append(b)
            found.setdefault(b, []).append(a)
        return {node: sorted(others) for node, others in found.items()}

    def side(self, node: int, other: int) -> list[int]:
        """The nodes that stay with a node when its edge to another is cut, in order."""
        near = self.near()
        found, edge = {node, other}, [node]
        while edge:
            edge = [v for at in edge for v in near.get(at, ()) if v not in found]
            found.update(edge)
        return sorted(found - {other})


def spanning(distances: Floats, nodes: Sequence[int]) -> list[tuple[int, int]]:
    """The minimum spanning tree of some nodes: pairs, the smaller first, in the order they were joined.

    Args:
        distances: (n, n) squared.
        nodes: which of them.
    """
    index = np.array(sorted(nodes), dtype=np.int64)
    table = distances[np.ix_(index, index)]
    near, via = np.full(len(index), np.inf), np.zeros(len(index), np.int64)
    outside, best = np.ones(len(index), bool), 0
    edges: list[tuple[int, int]] = []
    for _ in range(len(index) - 1):
        outside[best] = False
        closer = outside & (table[best] < near)
        near, via = np.where(closer, table[best], near), np.where(closer, best, via)
        best = int(np.argmin(np.where(outside, near, np.inf)))
        a, b = int(index[via[best]]), int(index[best])
        edges.append((min(a, b), max(a, b)))
    return edges


def popular(distances: Floats, edges: Sequence[tuple[int, int]]) -> Floats:
    """What it costs to join models when those that have many neighbours are likelier parents: (n, n), symmetric.

    The longer an edge, the less it tells the parent from the parent's other children. Models are made from those that
    many are made from: that decides among costs that are all but equal.

    Args:
        distances: what it costs to tell one from another, (n, n).
        edges: of a first tree.
    """
    degrees = np.bincount(np.array(edges, dtype=np.int64).ravel(), minlength=len(distances))
    many = np.log(np.maximum(degrees, 1))
    return np.asarray(distances * (1 - _POPULAR * (many[:, None] + many[None, :])))


_POPULAR = 0.01  # share of a cost that a parent with e times as many neighbours may cost more


def with_latent(
    edges: Sequence[tuple[int, int]],
    costs: Floats,
    gram: Floats,
    likeness: Callable[[int, int, int], float],
    aside: Collection[int] = (),
) -> Tree:
    """Put a latent parent among siblings that a spanning tree has joined to each other.

    Args:
        edges: of a spanning tree.
        costs: of telling one model from another, (n, n).
        gram: inner products of all models, (n, n).
        likeness: of two models' differences to a third, the first of the arguments; see `engine.descent.likeness`.
        aside: models that are nobody's siblings here, for they come from a merge.
    """
    tree = Tree(len(gram), list(edges))
    near_all = tree.near()
    order = sorted(near_all, key=lambda v: (-len(near_all[v]), v))
    for middle in order:
        near = [v for v in tree.neighbours(middle) if v < tree.n and v not in aside]
        if middle in aside:
            continue
        siblings = _siblings(gram, likeness, middle, near)
        if len(siblings) < 2:  # noqa: PLR2004 - two siblings and the middle show a parent
            continue
        gone = {(min(middle, v), max(middle, v)) for v in siblings}
        tree.edges = [edge for edge in tree.edges if edge not in gone]
        parent = _parent(likeness, [middle, *siblings])
        if parent is not None:
            others = [v for v in (middle, *siblings) if v != parent]
            tree.edges += [(min(v, parent), max(v, parent)) for v in others]
            continue
        products = relative(gram, middle, siblings)
        away = max(0.0, float(np.mean(products[np.triu_indices(len(siblings), 1)])))
        node = tree.n + len(tree.latent)
        tree.latent[node] = {middle: away} | {
            v: max(0.0, float(products[i, i]) - away) for i, v in enumerate(siblings)
        }
        tree.edges += [(v, node) for v in sorted((middle, *siblings))]
        _join(tree, node, costs, gram, likeness)
    return tree


def _parent(likeness: Callable[[int, int, int], float], nodes: Sequence[int]) -> int | None:
    """The one of some nodes from which the others have nothing in common, and so is their parent; None for none."""
    alike = {
        v: float(
            np.mean([likeness(v, *pair) for pair in combinations([u for u in nodes if u != v], 2)])
        )
        for v in nodes
    }
    best = min(nodes, key=lambda v: (alike[v], v))
    return best if alike[best] < SIBLING / 2 else None


def _join(
    tree: Tree,
    latent: int,
    costs: Floats,
    gram: Floats,
    likeness: Callable[[int, int, int], float],
) -> None:
    """Move to a latent parent the neighbours of its children that are its children too."""
    for child in sorted(tree.latent[latent]):
        away = tree.latent[latent][child]
        others = _nearest(gram, child, [v for v in sorted(tree.latent[latent]) if v != child])
        for near in [v for v in tree.neighbours(child) if v < tree.n]:
            apart = np.median([float(costs[other, near]) for other in others])
            alike = np.median([likeness(child, near, other) for other in others])
            # of one as near to the others as to the child none can tell whose it is: it is their parent's
            if apart < (1 + _POPULAR) * costs[child, near] or alike > SIBLING / 2:
                tree.edges.remove((min(near, child), max(near, child)))
                tree.edges.append((near, latent))
                length = float(relative(gram, child, [near])[0, 0])
                tree.latent[latent][near] = max(0.0, length - away)


def _siblings(
    gram: Floats, likeness: Callable[[int, int, int], float], middle: int, near: Sequence[int]
) -> list[int]:
    """The largest set of neighbours any two of which look like siblings of the middle; greedy, the clearest first."""
    if len(near) < 2:  # noqa: PLR2004
        return []
    few = _nearest(gram, middle, near)
    alike = np.full((len(few), len(few)), -1.0)
    for i, j in combinations(range(len(few)), 2):
        alike[i, j] = alike[j, i] = likeness(middle, few[i], few[j])
    a, b = np.unravel_index(int(np.argmax(alike)), alike.shape)
    if alike[a, b] < SIBLING:
        return []
    chosen = [int(a), int(b)]
    for i in np.argsort(-alike[chosen].min(0), kind="stable").tolist():
        if i not in chosen and alike[i, chosen].min() >= SIBLING / 2:
            chosen.append(i)
    if len(chosen) == 2 and alike[a, b] < _PAIR:  # noqa: PLR2004 - two neighbours may be a parent and a child
        return []
    # a parent of many has some that were taught alike, but not most
    return sorted(few[i] for i in chosen) if 2 * len(chosen) > len(few) else []


_PAIR = 0.2
"""Likeness of two alone: in a chain of trainings the middle model's neighbours are a little alike, too."""


def _nearest(gram: Floats, middle: int, others: Sequence[int]) -> list[int]:
    """The few nearest of some models to one."""
    lengths = np.diag(relative(gram, middle, others))
    return [others[i] for i in np.argsort(lengths, kind="stable")[:_FEW]]


_FEW = 8


def relative(gram: Floats, origin: int, others: Sequence[int]) -> Floats:
    """Inner products of the differences of others to one model: (k, k)."""
    index = list(others)
    own = gram[index, origin]
    return np.asarray(
        gram[np.ix_(index, index)] - own[:, None] - own[None, :] + gram[origin, origin]
    )
