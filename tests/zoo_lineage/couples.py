"""Couples: which pairs of a zoo's models are merged to see whether it goes well, and what they are to each other."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from zoo_lineage.plan import Family, Node
from zoo_lineage.truth import folder_name

KINDS = frozenset((
    "base", "finetune", "continued_pretrain", "adapter_merged", "merge", "merge_trained", "cast", "quantized",
    "permuted", "distilled",
))  # fmt: skip
"""Kinds of nodes that take part: whole models of their family's shape and names that training made, and casts of them."""

N_OF_A_SORT = 5
"""Pairs of one sort that are taken of a family, at most; all sorts have a voice."""

SORTS = (
    "siblings",
    "parent and child",
    "cousins",
    "after continued training",
    "quantised",
    "other basis",
    "strangers",
)


@dataclass(frozen=True)
class Member:
    """A node and the family it is of."""

    family: Family
    node: Node

    def folder(self, split: str) -> str:
        """Its folder's name."""
        return folder_name(split, self.family, self.node.name)

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"{self.family.name}/{self.node.name}"


@dataclass(frozen=True)
class Couple:
    """Two members; the first one's family is the one the couple counts for."""

    a: Member
    b: Member
    sort: str


def couples(families: Sequence[Family]) -> list[Couple]:
    """At most `N_OF_A_SORT` pairs of every sort of each family, in an order that follows from their names alone."""
    found = []
    for family in families:
        pairs: dict[str, list[Couple]] = defaultdict(list)
        for couple in (*_within(family), *_across(family, families)):
            pairs[couple.sort].append(couple)
        for sort in SORTS:
            ordered = sorted(pairs[sort], key=lambda c: _draw(f"{c.a.label} {c.b.label}"))
            found += ordered[:N_OF_A_SORT]
    return found


def _draw(text: str) -> str:
    """A place in an order that says nothing."""
    return hashlib.sha256(text.encode()).hexdigest()


def members(family: Family) -> list[Member]:
    """Those that take part; a missing base is not there."""
    nodes = {node.name: node for node in family.nodes}
    grown = [n for n in nodes if "extend" in (nodes[m].act for m in _line(nodes, nodes[n]))]
    return [
        Member(family, node)
        for name, node in nodes.items()
        if node.kind in KINDS and name not in grown and not (family.missing and name == "base")
    ]


def _within(family: Family) -> Iterator[Couple]:
    """All pairs of a family."""
    for a, b in combinations(members(family), 2):
        yield Couple(a, b, _sort(family, a.node, b.node))


def _across(family: Family, families: Sequence[Family]) -> Iterator[Couple]:
    """Pairs with other families of the same shape: the same recipe, another seed."""
    for other in families:
        if other.shape == family.shape and other.name != family.name:
            for a in members(family):
                for b in members(other):
                    yield Couple(a, b, "strangers")


def _sort(family: Family, a: Node, b: Node) -> str:
    """What two nodes of a family are to each other."""
    nodes = {node.name: node for node in family.nodes}
    above = [_line(nodes, node) for node in (a, b)]
    if not set(above[0]) & set(above[1]):
        return "strangers"
    if _basis(nodes, a) != _basis(nodes, b):
        return "other basis"
    if "quantized" in (a.kind, b.kind):
        return "quantised"
    if any(nodes[n].kind == "continued_pretrain" for n in set(above[0]) ^ set(above[1])):
        return "after continued training"
    if a.name in b.parents or b.name in a.parents:
        return "parent and child"
    return "siblings" if set(a.parents) & set(b.parents) else "cousins"


def _line(nodes: dict[str, Node], node: Node) -> list[str]:
    """A node and all above it."""
    return [node.name, *(n for parent in node.parents for n in _line(nodes, nodes[parent]))]


def _basis(nodes: dict[str, Node], node: Node) -> str:
    """The node whose basis a node has."""
    return node.name if node.turned or not node.parents else _basis(nodes, nodes[node.parents[0]])
