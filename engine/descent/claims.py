"""Claims: what people say of descent, beside what the weights say.

A claim is taken to be right four times in five. That decides a direction, and with it a root, where the weights say
little; it is a small voice where they say much. A claim joins no models that the weights keep apart, and no two of a
family of which the weights tell clearly that others stand between them.
"""

import math
from collections.abc import Collection, Iterable, Mapping

from engine.descent.pile import Floats

RIGHT = 0.8
"""Share of all claims that are right."""

LOG_ODDS = math.log(RIGHT / (1 - RIGHT))
"""Logarithm of a claim's odds."""

WORTH = 0.05
"""Nats an entry: of two parents whose costs differ by less the weights do not tell which it is, and a claim does."""

Claims = Collection[tuple[str, str]]
"""Pairs of a child and the parent it is said to have, by ids."""

Places = frozenset[tuple[int, int]]
"""The same by places in a bucket."""

SILENT: Places = frozenset()
"""Nobody says anything."""


def placed(claims: Claims, places: Mapping[str, int]) -> Places:
    """Claims by places; those about models that have none, or of a place about itself, are left out."""
    found = {(places[c], places[p]) for c, p in claims if c in places and p in places}
    return frozenset(pair for pair in found if pair[0] != pair[1])


def nearer(costs: Floats, claims: Places) -> Floats:
    """Costs of joining models, (n, n), less what a claim is worth between those it joins."""
    if not claims:
        return costs
    found = costs.copy()
    for child, parent in claims:
        found[child, parent] = found[parent, child] = costs[child, parent] - WORTH
    return found


def said(claims: Places, edges: Iterable[tuple[int, int]]) -> float:
    """Log-likelihood of a tree's directions by the claims: a claim is right where it names an ancestor.

    Args:
        claims: (child, parent).
        edges: (parent, child).
    """
    above = {child: parent for parent, child in edges}
    n_right = 0
    for child, parent in claims:
        node = child
        while node in above and node != parent:
            node = above[node]
        n_right += node == parent
    return LOG_ODDS * n_right


def contested(edges: Iterable[tuple[int, int]], claims: Places) -> set[int]:
    """Children none of whose claimed parents is above them by the edges, each (child, parent)."""
    above: dict[int, list[int]] = {}
    for child, parent in edges:
        above.setdefault(child, []).append(parent)
    said: dict[int, set[int]] = {}
    for child, parent in claims:
        said.setdefault(child, set()).add(parent)
    return {child for child in said if child in above and not said[child] & _far(above, child)}


def _far(above: Mapping[int, list[int]], node: int) -> set[int]:
    """All nodes above one."""
    found, edge = set[int](), list(above.get(node, ()))
    while edge:
        one = edge.pop()
        if one not in found:
            found.add(one)
            edge += above.get(one, ())
    return found


def doubted(confidence: float) -> float:
    """What stays of an edge's confidence c when a claim names another parent of the same family.

    Bayes' rule: a right edge meets such a claim with probability 0.2, a wrong one with 1, spread over the other models
    alike, so that c : (1 - c) becomes c : 5 (1 - c).
    """
    return confidence / (confidence + (1 - confidence) / (1 - RIGHT))


def upheld(confidence: float) -> float:
    """Probability of a claim that names another parent than an edge does, whose confidence knows of the claim.

    What is wrong with the edge is right with the claim, but for the share of claims that name any model.
    """
    return RIGHT * (1 - confidence)
