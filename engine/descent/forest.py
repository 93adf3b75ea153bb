"""Forests: everything a set of sketches tells, over all architectures.

Models of one signature make a bucket. Those that are alone in theirs may bear other names, or be layers of others
stacked anew; components that have nothing in common entry by entry may be each other in another basis.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from engine.descent.basis import turns
from engine.descent.claims import Claims
from engine.descent.clan import Clan, Clans, clans_of
from engine.descent.component import Component, Descent, component_of, key_of
from engine.descent.kind import Kind
from engine.descent.naming import called_as
from engine.descent.patch import Signature
from engine.descent.sketch import Sketch, fetch
from engine.descent.stacking import Stack, is_stackable, stacked


@dataclass
class Forest:
    """What was found.

    Attributes:
        edges: in order of buckets and components.
        latent: parents that nobody has.
        unaligned: pairs of models that are one network in two bases, or descend from one.
        unsound: models that hold NaN or infinity, of which nothing is said.
        components: what was found within each, by key.
        clans: who hangs together.
    """

    edges: list[Descent] = field(default_factory=list)
    latent: list[str] = field(default_factory=list)
    unaligned: list[tuple[str, str, float]] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    components: dict[str, Component] = field(default_factory=dict)
    clans: Clans = field(default_factory=Clans)


@dataclass(frozen=True)
class _Past:
    """What was found before: components by key, and searches that found nothing in any of them."""

    known: Mapping[str, Component]

    @cached_property
    def blanks(self) -> frozenset[str]:
        """Keys of these searches."""
        return frozenset(key for part in self.known.values() for key in part.blanks)


def forest(
    sketches: Sequence[Sketch],
    claims: Claims = (),
    known: Mapping[str, Component] | None = None,
    clans: Clans | None = None,
) -> Forest:
    """Infer who descends from whom.

    Args:
        sketches: of one specification, of distinct models; their order decides nothing but ties.
        claims: pairs of a child and the parent it is said to have; see `engine.descent.claims`.
        known: components by key, which are taken as they are; the others are inferred, without the searches that
            found nothing in any of these.
        clans: that are known of some of these models and of others; what they tell is not looked for again.
    """
    past = _Past(known or {})
    clans = clans or Clans()
    unsound = _unsound(sketches, clans)
    found = Forest(unsound=[s.model for s in unsound])
    found.clans.unsound.extend(s.line for s in unsound)
    tops: list[tuple[list[Sketch], str]] = []
    sound = [s for s in sketches if s.model not in found.unsound]
    as_they_are = {id(s) for s in sound}
    for group in _grouped(sorted(sound, key=lambda s: s.model)):
        if all(id(s) in as_they_are for s in group):
            parts = clans.grown(group)
            found.clans.add(group, parts)
        else:  # who bears other names does so because of the others
            parts = clans_of(group)
        tops += _of_group(group, parts, claims, past, found)
    made = _stack(tops, found)
    _turn([top for top in tops if top[1] not in made], found)
    return found


def _unsound(sketches: Sequence[Sketch], clans: Clans) -> list[Sketch]:
    """Sketches that hold NaN or infinity; those of which it is known are not looked at."""
    sound, broken = clans.sound, set(clans.unsound)
    new = [s for s in sketches if s.line not in sound and s.line not in broken]
    fetch(new)
    broken.update(s.line for s in new if not np.isfinite(s.values).all())
    return [s for s in sketches if s.line in broken]


def _grouped(sketches: Sequence[Sketch]) -> list[list[Sketch]]:
    """Sketches by their tensors' names and columns, the largest group first, those under other names among them."""
    groups: dict[Signature, list[Sketch]] = defaultdict(list)
    for sketch in sketches:
        groups[sketch.layout.signature].append(sketch)
    kept: list[list[Sketch]] = []
    for group in sorted(groups.values(), key=lambda g: (-len(g), g[0].model)):
        homes = list(kept)
        strangers = []
        for sketch in group:
            home = _home(sketch, homes)
            if home is None:
                strangers.append(sketch)
            else:
                home[0].append(home[1])
        if strangers:
            kept.append(strangers)
    return kept


def _home(sketch: Sketch, groups: Sequence[list[Sketch]]) -> tuple[list[Sketch], Sketch] | None:
    """The group whose tensors a sketch has under other names, and the sketch under those."""
    for group in groups:
        for other in group:
            if other.layout.shapes == sketch.layout.shapes:
                named = called_as(sketch, other)
                if named is not None:
                    return group, named
    return None


def _of_group(
    group: list[Sketch], clans: Sequence[Clan], claims: Claims, past: _Past, found: Forest
) -> list[tuple[list[Sketch], str]]:  # fmt: skip
    """Infer within a bucket, whose clans these are; its components, each with its root."""
    place = {s.model: i for i, s in enumerate(group)}
    doubles = sorted(
        (twin for clan in clans for twin in clan.twins), key=lambda t: (t.lossy, place[t.model])
    )
    for twin in doubles:
        detail = "every sampled entry is equal" + (" after rounding" if twin.lossy else "")
        certain = Kind(twin.kind, "equal_share", 1.0, detail)
        found.edges.append(Descent(twin.model, twin.of, certain, None, "parent", 0.99))
    same = {model: one for clan in clans for model, one in clan.same.items()}
    tops = []
    for clan in sorted(clans, key=lambda clan: place[clan.part[0]]):
        members, inside = [group[place[model]] for model in clan.part], set(clan.part)
        said = [(same[c], same[p]) for c, p in claims if {same.get(c), same.get(p)} <= inside]
        key = key_of(members, said)
        made = past.known.get(key)
        if made is None:
            fetch(members)
            made = component_of(members, said, past.blanks)
        found.components[key] = made
        found.latent += made.latent
        found.edges += made.edges
        tops.append((members, made.root))
    return tops


def _stack(tops: list[tuple[list[Sketch], str]], found: Forest) -> set[str]:
    """Join roots that are stacked of another component's layers; which they are."""
    joined: set[str] = set()
    layouts = {sketch.layout.digest: sketch.layout for part, _ in tops for sketch in part}
    for i, (_, top) in enumerate(tops):
        child = next(s for s in tops[i][0] if s.model == top)
        best: tuple[Stack, Sketch] | None = None
        may = {digest for digest, layout in layouts.items() if is_stackable(child.layout, layout)}
        fetch([s for part, _ in tops for s in part if s.layout.digest in may] if may else ())
        for j, (others, _) in enumerate(tops if may else ()):
            for parent in others if j != i else ():
                made = stacked(child, parent) if parent.layout.digest in may else None
                if (
                    made
                    and len(set(made.layers)) < len(made.layers)
                    and (best is None or made.distance < best[0].distance)
                ):
                    best = (made, parent)
        if best is not None:
            stack, parent = best
            detail = "its layers are the parent's " + ", ".join(map(str, stack.layers))
            kind = Kind("frankenmerge", "equal_layers_share", stack.exact, detail)
            found.edges.append(Descent(top, parent.model, kind, None, "parent", 0.97))
            joined.add(top)
    return joined


def _turn(tops: list[tuple[list[Sketch], str]], found: Forest) -> None:
    """Hang components on those that they are in another basis."""
    for turn in turns(tops):
        apart = turn.distance
        found.unaligned.append((turn.child, turn.parent, apart))
        _reroot(found, turn.child)
        detail = f"inner products along the data's axes agree (distance {apart:.3f}), the entries do not: align first"
        kind = Kind("permuted", "invariant_distance", apart, detail)
        found.edges.append(Descent(turn.child, turn.parent, kind, None, "parent", 0.95))


def _reroot(found: Forest, root: str) -> None:
    """Turn the edges on the way from a model up to its component's root, so that it is the root itself."""
    by_child = {
        e.child: i
        for i, e in enumerate(found.edges)
        if e.role == "parent" and e.kind.name != "frankenmerge"
    }
    at = by_child.get(root)
    while at is not None:
        edge = found.edges[at]
        above = by_child.get(edge.parent)
        found.edges[at] = replace(
            edge, child=edge.parent, parent=edge.child, direction=-edge.direction
        )
        at = above
