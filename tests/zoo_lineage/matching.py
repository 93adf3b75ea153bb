"""Predicted edges laid on true ones: what is the same model, which unknown parent is which, what counts as found.

The conventions, chosen so that only what the weights can tell is asked:

* Models that hold the same values (copies, renamed, resharded, casts that lost nothing) are one *class*. Any member
  stands for the class in any other edge; within a class of n present models any n − 1 edges that connect them are right,
  in either direction. What connects nothing new is spurious.
* A base that is not there is *latent*. A prediction may introduce nodes for such parents and list them under "latent".
  A predicted latent node is the true one with which it shares the most children, if they share at least half of all
  children of the two (Jaccard ≥ 1/2); one to one, the best first.
* A permuted copy's edge is right in either direction.
* An edge between a model and one that took part in its recipe without being a parent (a merge's base, a negation's
  source) is neither right nor wrong: it is left out.
* A second edge between the same two classes is spurious.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Facts = dict[str, Any]
Pair = tuple[str, str]
"""(child, parent), as representatives of their classes."""


class Union:
    """Disjoint sets; the representative is the smallest member."""

    def __init__(self, members: Iterable[str] = ()) -> None:
        self._above = {member: member for member in members}

    def find(self, member: str) -> str:
        """The representative."""
        while self._above.setdefault(member, member) != member:
            member = self._above[member]
        return member

    def join(self, a: str, b: str) -> bool:
        """Unite two sets; False if they were one."""
        low, high = sorted((self.find(a), self.find(b)))
        self._above[high] = low
        return low != high


@dataclass(frozen=True)
class Verdict:
    """One predicted edge.

    Attributes:
        edge: as predicted.
        child: its class, or a latent node.
        parent: its class, or a latent node.
        truth: the true edge between the two, if there is one and no earlier prediction took it.
        forward: the direction is right, or cannot be told.
    """

    edge: Facts
    child: str
    parent: str
    truth: Facts | None
    forward: bool

    @property
    def right(self) -> bool:
        """Whether edge and direction are true."""
        return self.truth is not None and self.forward


@dataclass(frozen=True)
class Matching:
    """A prediction laid on the truth.

    Attributes:
        nodes: true name → its facts.
        classes: true name → class.
        latent: classes none of which is there.
        edges: true edges between classes.
        n_copies: how many edges connect the members of all classes.
        verdicts: of the predicted edges, the neutral left out.
        missed: true edges that no prediction took, those of copies among them.
    """

    nodes: Mapping[str, Facts]
    classes: Mapping[str, str]
    latent: frozenset[str]
    edges: Mapping[Pair, Facts]
    n_copies: int
    verdicts: tuple[Verdict, ...]
    missed: tuple[Facts, ...]

    def label(self, name: str) -> str:
        """What a person calls a node."""
        return self.nodes[name]["label"] if name in self.nodes else name


def match(truth: Facts, predictions: Facts) -> Matching:
    """Lay predictions on the truth.

    Raises:
        ValueError: an edge names neither a model of the truth nor a node listed as latent.
    """
    nodes = {node["name"]: node for node in truth["nodes"]}
    classes = _classes(nodes, truth["edges"])
    there = {classes[name] for name, node in nodes.items() if not node["latent"]}
    edges = {
        (classes[e["child"]], classes[e["parent"]]): e
        for e in truth["edges"]
        if classes[e["child"]] != classes[e["parent"]]
    }
    latent = frozenset(set(classes.values()) - there)
    named = classes | _latents(predictions, classes, edges, latent)
    n_present = sum(not node["latent"] for node in nodes.values())
    neutral = {
        frozenset((classes[name], classes[other]))
        for name, node in nodes.items()
        for other in node["neutral"]
    } - {frozenset(pair) for pair in edges}
    verdicts = tuple(_verdicts(predictions, nodes, named, edges, neutral))
    taken = {id(v.truth) for v in verdicts}
    missed = [edge for edge in edges.values() if id(edge) not in taken]
    missed += _missed_copies(truth["edges"], classes, verdicts)
    n_copies = n_present - len(there)
    return Matching(nodes, classes, latent, edges, n_copies, verdicts, tuple(missed))


def _missed_copies(
    edges: Iterable[Facts], classes: Mapping[str, str], verdicts: Iterable[Verdict]
) -> Iterable[Facts]:
    """The copies that connect what the predictions left apart."""
    union = Union()
    for verdict in verdicts:
        if verdict.child == verdict.parent:
            union.join(verdict.edge["child"], verdict.edge["parent"])
    for edge in edges:
        same = classes[edge["child"]] == classes[edge["parent"]]
        if same and union.join(edge["child"], edge["parent"]):
            yield edge


def _classes(nodes: Mapping[str, Facts], edges: Iterable[Facts]) -> dict[str, str]:
    union = Union(nodes)
    for edge in edges:
        if edge["kind"] in ("copy", "cast") and not edge["direction_identifiable"]:
            union.join(edge["child"], edge["parent"])
    return {name: union.find(name) for name in nodes}


def _latents(
    predictions: Facts,
    classes: Mapping[str, str],
    edges: Mapping[Pair, Facts],
    latent: frozenset[str],
) -> dict[str, str]:
    """Predicted latent node → the true one, or itself between question marks."""
    said: dict[str, set[str]] = {name: set() for name in predictions.get("latent", [])}
    for edge in predictions["edges"]:
        for end in (edge["child"], edge["parent"]):
            if end not in classes and end not in said:
                message = f"{end} is no model of this zoo and is not listed under latent"
                raise ValueError(message)
        if edge["parent"] in said and edge["child"] in classes:
            said[edge["parent"]].add(classes[edge["child"]])
    true = {base: {c for c, p in edges if p == base} for base in latent}
    scores = sorted(
        (-len(said[name] & true[base]) / len(said[name] | true[base]), name, base)
        for name in said
        for base in true
        if said[name] & true[base]
    )
    found: dict[str, str] = {}
    for score, name, base in scores:
        if score <= -0.5 and name not in found and base not in found.values():
            found[name] = base
    return {name: found.get(name, f"?{name}?") for name in said}


def _verdicts(
    predictions: Facts,
    nodes: Mapping[str, Facts],
    named: Mapping[str, str],
    edges: Mapping[Pair, Facts],
    neutral: set[frozenset[str]],
) -> Iterable[Verdict]:
    """Judge the edges in their order."""
    copies, taken = Union(), set[Hashable]()
    for edge in predictions["edges"]:
        child, parent = named[edge["child"]], named[edge["parent"]]
        pair = frozenset((child, parent))
        if child == parent:
            joined = edge["child"] != edge["parent"] and copies.join(edge["child"], edge["parent"])
            yield Verdict(edge, child, parent, _copy(nodes, edge) if joined else None, joined)
        elif pair in neutral:
            continue
        else:
            forward = (child, parent) in edges
            true = edges.get((child, parent)) or edges.get((parent, child))
            if true is None or pair in taken:
                yield Verdict(edge, child, parent, None, forward=False)
                continue
            taken.add(pair)
            free = not true["direction_identifiable"]
            yield Verdict(edge, child, parent, true, forward or free)


def _copy(nodes: Mapping[str, Facts], edge: Facts) -> Facts:
    """The true edge between two members of a class: a copy, or a cast where the dtypes differ."""
    ends = [nodes.get(edge[end], {}).get("dtype") for end in ("child", "parent")]
    kind = "copy" if ends[0] == ends[1] else "cast"
    return {**edge, "kind": kind, "direction_identifiable": False, "exact": False}
