"""The graph of lineage as a tree for people: every model once, merges below each of their parents."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.lineage import Edge, Lineage

SEEN = "… (see above)"
"""Stands where the descendants of a model would be printed again."""

_STRENGTH = ("recorded", "measured", "inferred", "declared")


def tree_lines(lineage: "Lineage") -> Iterator[tuple[int, str, str]]:
    """(depth, name, what is said of it) of every node in order of reading.

    A model with several parents appears below each of them; its descendants are printed the first time only. Claims
    may form cycles; a model below itself is referred to and not followed.
    """
    edges: dict[tuple[str, str], list[Edge]] = defaultdict(list)
    for edge in lineage.edges:
        edges[edge.parent, edge.child].append(edge)
    printed: set[str] = set()
    stack = [(0, root, "") for root in reversed(lineage.roots())]
    while stack:
        depth, model, parent = stack.pop()
        node = lineage.nodes[model]
        said = [] if node.status == "full" else [node.status]
        said += _said(edges[parent, model])
        if model in printed:
            yield depth, node.name, "; ".join([*said, SEEN])
            continue
        printed.add(model)
        yield depth, node.name, "; ".join(said)
        stack += [(depth + 1, child, model) for child in reversed(lineage.children(model))]


def _said(edges: Sequence["Edge"]) -> list[str]:
    """What edges from one parent say: ``merge 0.6, recorded + declared``, with the doubt of each, strongest first."""
    statuses: dict[str, list[str]] = defaultdict(list)
    for edge in sorted(edges, key=lambda e: (_STRENGTH.index(e.status), e.relation, e.role)):
        words = "merge base" if edge.relation == "merge" and edge.role == "base" else edge.relation
        amount = "" if edge.coefficient is None else f" {edge.coefficient:g}"
        doubt = "" if edge.confidence >= 1 else f" {edge.confidence:.2f}"
        statuses[words + amount].append(edge.status + doubt)
    return [f"{words}, {' + '.join(found)}" for words, found in statuses.items()]
