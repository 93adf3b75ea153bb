"""Forests: everything a set of sketches tells, over all architectures.

Models of one signature make a bucket. Those that are alone in theirs may bear other names, or be layers of others
stacked anew; components that have nothing in common entry by entry may be each other in another basis.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.descent.basis import turns
from engine.descent.bucket import Bucket, gather
from engine.descent.claims import Claims
from engine.descent.component import Component, Descent, component_of, key_of
from engine.descent.kin import components
from engine.descent.kind import Kind
from engine.descent.naming import called_as
from engine.descent.patch import Signature
from engine.descent.sketch import Sketch
from engine.descent.stacking import Stack, is_stackable, stacked
from engine.descent.twin import Twin, twins


@dataclass
class Forest:
    """What was found.

    Attributes:
        edges: in order of buckets and components.
        latent: parents that nobody has.
        unaligned: pairs of models that are one network in two bases, or descend from one.
        unsound: models that hold NaN or infinity, of which nothing is said.
        components: what was found within each, by key.
    """

    edges: list[Descent] = field(default_factory=list)
    latent: list[str] = field(default_factory=list)
    unaligned: list[tuple[str, str, float]] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    components: dict[str, Component] = field(default_factory=dict)


def forest(
    sketches: Sequence[Sketch],
    claims: Claims = (),
    known: Mapping[str, Component] | None = None,
) -> Forest:
    """Infer who descends from whom.

    Args:
        sketches: of one specification, of distinct models; their order decides nothing but ties.
        claims: pairs of a child and the parent it is said to have; see `engine.descent.claims`.
        known: components by key, which are taken as they are; the others are inferred, without the searches that
            found nothing in any of these.
    """
    known = known or {}
    blanks = frozenset(key for part in known.values() for key in part.blanks)
    found = Forest(unsound=[s.model for s in sketches if not np.isfinite(s.values).all()])
    tops: list[tuple[list[Sketch], str]] = []
    sound = [s for s in sketches if s.model not in found.unsound]
    for group in _grouped(sorted(sound, key=lambda s: s.model)):
        tops += _of_group(group, claims, known, blanks, found)
    made = _stack(tops, found)
    _turn([top for top in tops if top[1] not in made], found)
    return found


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
    group: list[Sketch], claims: Claims, known: Mapping[str, Component], blanks: frozenset[str],
    found: Forest,
) -> list[tuple[list[Sketch], str]]:  # fmt: skip
    """Infer within a bucket; its components, each with its root."""
    bucket = gather(group)
    doubles = twins(bucket)
    for twin in doubles:
        certain = Kind(
            twin.kind,
            "equal_share",
            1.0,
            "every sampled entry is equal" + (" after rounding" if twin.lossy else ""),
        )
        found.edges.append(
            Descent(
                bucket.models[twin.model], bucket.models[twin.of], certain, None, "parent", 0.99
            )
        )
    gone = {twin.model for twin in doubles}
    single = bucket.of([i for i in range(len(bucket)) if i not in gone]) if gone else bucket
    by_name = {s.model: s for s in group}
    same = _same(bucket, doubles)
    tops = []
    for part in components(single):
        members = [by_name[single.models[i]] for i in part]
        inside = {single.models[i] for i in part}
        said = [(same[c], same[p]) for c, p in claims if {same.get(c), same.get(p)} <= inside]
        key = key_of(members, said)
        made = known[key] if key in known else component_of(members, said, blanks)
        found.components[key] = made
        found.latent += made.latent
        found.edges += made.edges
        tops.append((members, made.root))
    return tops


def _same(bucket: Bucket, doubles: Sequence[Twin]) -> dict[str, str]:
    """Each model → the one that stands for it: of a twin, the last it is a twin of."""
    of = {bucket.models[twin.model]: bucket.models[twin.of] for twin in doubles}
    found = {}
    for model in bucket.models:
        last = model
        while last in of:
            last = of[last]
        found[model] = last
    return found


def _stack(tops: list[tuple[list[Sketch], str]], found: Forest) -> set[str]:
    """Join roots that are stacked of another component's layers; which they are."""
    joined: set[str] = set()
    layouts = {sketch.layout.digest: sketch.layout for part, _ in tops for sketch in part}
    for i, (_, top) in enumerate(tops):
        child = next(s for s in tops[i][0] if s.model == top)
        best: tuple[Stack, Sketch] | None = None
        may = {digest for digest, layout in layouts.items() if is_stackable(child.layout, layout)}
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
