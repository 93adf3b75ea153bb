"""Contradictions: claims held against what was inferred.

A claim of an ancestor is no contradiction, for people name the first of a family as often as the last; nor is one
between models that hold the same numbers, or are one network in two bases, of which the weights give no direction. Of
several parents that are claimed one that is shown is enough: a merge may be told by one of them only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.descent.claims import Claims, doubted, upheld
from engine.descent.component import Descent
from engine.descent.forest import Forest

STRANGERS = 0.01
"""Probability of a claim between models whose weights have nothing in common."""


@dataclass(frozen=True)
class Contradiction:
    """A claim that is more likely wrong than right.

    Attributes:
        child, parent: ids, as claimed.
        probability: that the claim is right all the same, in [0, 1/2).
        strangers: the two have nothing in common.
        detail: why, in words.
    """

    child: str
    parent: str
    probability: float
    strangers: bool
    detail: str


def contradictions(
    claims: Claims, models: Sequence[str], found: Forest, *, joined: bool
) -> list[Contradiction]:
    """Claims that what was inferred contradicts, in order.

    Args:
        claims: pairs of a child and its claimed parent.
        models: all that were looked at; claims about others are not held against anything.
        found: of those models.
        joined: the claims had a voice in it already.
    """
    sound = set(models) - set(found.unsound)
    graph = _Graph(found.edges)
    held = sorted((c, p) for c, p in claims if {c, p} <= sound)
    shown = {c for c, p in held if graph.is_above(p, c)}
    judged = (graph.judge(c, p, joined=joined) for c, p in held)
    return [one for one in judged if one and (one.strangers or one.child not in shown)]


class _Graph:
    """Edges as a graph over classes of models that hold the same numbers."""

    def __init__(self, edges: Sequence[Descent]) -> None:
        self._same = {e.child: e.parent for e in edges if e.kind.name in ("copy", "cast")}
        self._above: dict[str, list[Descent]] = {}
        for edge in edges:
            if edge.kind.name not in ("copy", "cast"):
                self._above.setdefault(self._one(edge.child), []).append(edge)

    def _one(self, model: str) -> str:
        """Who stands for a model's class: nobody's copy."""
        while model in self._same:
            model = self._same[model]
        return model

    def _ancestors(self, model: str) -> set[str]:
        """A class and all above it."""
        found, edge = set[str](), [model]
        while edge:
            one = edge.pop()
            if one not in found:
                found.add(one)
                edge += [self._one(e.parent) for e in self._above.get(one, ())]
        return found

    def is_above(self, parent: str, child: str) -> bool:
        """Tell whether a model descends from another, or holds the same numbers."""
        return self._one(parent) in self._ancestors(self._one(child))

    def judge(self, child: str, parent: str, *, joined: bool) -> Contradiction | None:
        """What contradicts a claim, if anything does."""
        low, high = self._one(child), self._one(parent)
        if self.is_above(parent, child):
            return None
        if not self._ancestors(low) & self._ancestors(high):
            detail = "the weights have nothing in common"
            return Contradiction(child, parent, STRANGERS, strangers=True, detail=detail)
        # who begins a family has no edge of its own, but those who are said to be above it have
        against = self._above.get(low) or self._above.get(high, [])
        if any(e.kind.name == "permuted" for e in against):
            return None
        certain = [e for e in against if e.role != "base"]
        sure = min((e.confidence for e in certain), default=0.0)
        chance = upheld(sure if joined else doubted(sure))
        if chance >= 0.5:  # noqa: PLR2004 - more likely right than wrong
            return None
        detail = (
            "the weights show another parent"
            if low in self._above
            else "the weights show the reverse"
        )
        return Contradiction(child, parent, chance, strangers=False, detail=detail)
