"""Trees: the least that connects kin, on squared distances.

What training adds is close to orthogonal to what it added before, so squared distances add along edges, and the minimum
spanning tree is the tree of descent without its directions. Where the parent itself is missing, siblings are joined to
each other: seen from one of them the others lie about 60 degrees apart instead of 90, and a latent parent takes the
middle.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.descent.bucket import Floats

SIBLING = 0.3
"""Cosine between differences from one model, from which on it and three or more others are siblings."""

TWO_SIBLINGS = 0.42
"""The same of it and two others only; of three that changed alike it is 0.5."""


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


def slid(
    edges: Sequence[tuple[int, int]],
    gram: Floats,
    costs: Floats,
    is_parent: Callable[[int, int], bool],
) -> list[tuple[int, int]]:
    """Move ends of edges that are far longer than the next one to where they belong.

    What comes after v has all of v's own change: seen from v's neighbour h, the coefficient of v's change in it is 1, and
    0 in what comes after h. Where it is far away, even a little likeness makes that number anything; then the end moves
    to the one of the two that more models are joined to.

    Args:
        edges: of a spanning tree.
        gram: inner products of all models, (n, n).
        costs: what the tree was spanned on, (n, n): where they tell the two apart, nothing moves.
        is_parent: tells whether a model is clearly another's parent.
    """
    found = list(edges)
    for _ in range(_ROUNDS):
        moved = False
        for i, (a, b) in enumerate(found):
            for far, near in ((a, b), (b, a)):
                to = _slide(found, gram, costs, is_parent, far=far, near=near)
                if to is not None:
                    found[i] = (min(far, to), max(far, to))
                    moved = True
                    break
        if not moved:
            break
    return found


def _slide(
    edges: Sequence[tuple[int, int]], gram: Floats, costs: Floats,
    is_parent: Callable[[int, int], bool], *, far: int, near: int,
) -> int | None:  # fmt: skip
    """The neighbour of ``near`` that an edge's end should move to; None where it should stay."""
    degree = Counter(v for edge in edges for v in edge)
    best: tuple[float, int] | None = None
    for a, b in edges:
        if near not in (a, b) or far in (a, b):
            continue
        hub = b if a == near else a
        products = relative(gram, hub, [far, near])
        if products[1, 1] <= 0 or products[0, 0] < _FAR * products[1, 1]:
            continue
        if costs[far, hub] - costs[far, near] > _TOLD:
            continue
        more = degree[hub] + 1 - degree[near]
        if more > 0 or (more == 0 and is_parent(hub, near)):
            length = float(products[1, 1])
            best = max(best or (0.0, hub), (degree[hub] + 1 / (1 + length), hub))
    return None if best is None else best[1]


_ROUNDS = 8
_TOLD = 0.05  # nats an entry
_FAR = 10.0  # times the square of the next edge's length


def with_latent(
    edges: Sequence[tuple[int, int]], gram: Floats, is_parent: Callable[[int, int], bool]
) -> Tree:
    """Put a latent parent among siblings that a spanning tree has joined to each other.

    Args:
        edges: of a spanning tree.
        gram: inner products of all models, (n, n).
        is_parent: tells whether a model is clearly another's parent.
    """
    tree = Tree(len(gram), list(edges))
    order = sorted(
        {node for edge in edges for node in edge}, key=lambda v: (-len(tree.neighbours(v)), v)
    )
    for middle in order:
        near = [v for v in tree.neighbours(middle) if v < tree.n]
        siblings = _siblings(gram, middle, near)
        if sum(is_parent(middle, v) for v in siblings) > len(siblings) / 2:
            continue
        if len(siblings) < 2:  # noqa: PLR2004 - two siblings and the middle show a parent
            continue
        products = relative(gram, middle, siblings)
        away = float(np.mean(products[np.triu_indices(len(siblings), 1)]))
        node = tree.n + len(tree.latent)
        tree.latent[node] = {middle: away} | {
            v: max(0.0, float(products[i, i]) - away) for i, v in enumerate(siblings)
        }
        gone = {(min(middle, v), max(middle, v)) for v in siblings}
        tree.edges = [edge for edge in tree.edges if edge not in gone]
        tree.edges += [(v, node) for v in sorted((middle, *siblings))]
    for node in sorted(tree.latent):
        _join(tree, node, gram)
    return tree


def _join(tree: Tree, latent: int, gram: Floats) -> None:
    """Move to a latent parent the neighbours of its children that are its children too.

    Seen from a child, another child's difference has |δ|² in common with those of its siblings, a grandchild's nothing.
    """
    for child in sorted(tree.latent[latent]):
        others = [v for v in sorted(tree.latent[latent]) if v != child]
        away = tree.latent[latent][child]
        for near in [v for v in tree.neighbours(child) if v < tree.n]:
            products = relative(gram, child, [near, *others])
            if away > 0 and float(np.median(products[0, 1:])) > _SHARED * away:
                tree.edges.remove((min(near, child), max(near, child)))
                tree.edges.append((near, latent))
                tree.latent[latent][near] = max(0.0, float(products[0, 0]) - away)


_SHARED = 0.5


def _siblings(gram: Floats, middle: int, near: Sequence[int]) -> list[int]:
    """The largest set of neighbours any two of which look like siblings of the middle; greedy, the clearest first."""
    if len(near) < 2:  # noqa: PLR2004
        return []
    products = relative(gram, middle, near)
    norms = np.sqrt(np.maximum(np.diag(products), 1e-300))
    cosine = products / np.outer(norms, norms)
    np.fill_diagonal(cosine, -1.0)
    a, b = np.unravel_index(int(np.argmax(cosine)), cosine.shape)
    if cosine[a, b] < SIBLING:
        return []
    others = [i for i in range(len(near)) if i not in (a, b)]
    third = max((min(cosine[a, i], cosine[b, i]) for i in others), default=-1.0)
    if third < SIBLING and cosine[a, b] < TWO_SIBLINGS:
        return []
    chosen = [int(a), int(b)]
    for i in np.argsort(-cosine[chosen].min(0), kind="stable").tolist():
        if i not in chosen and cosine[i, chosen].min() >= SIBLING:
            chosen.append(i)
    return sorted(near[i] for i in chosen)


def relative(gram: Floats, origin: int, others: Sequence[int]) -> Floats:
    """Inner products of the differences of others to one model: (k, k)."""
    index = list(others)
    own = gram[index, origin]
    return np.asarray(
        gram[np.ix_(index, index)] - own[:, None] - own[None, :] + gram[origin, origin]
    )
