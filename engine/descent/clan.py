"""Clans: models that hang together by kinship or as twins, kept so that who comes later is compared with them, not they again.

No model of a clan is kin or twin of one outside. What is found of a clan follows from its models alone; so a clan that
no new model touches stays as it is, and its scalars need not be read. One that lost a model is looked at anew: what held
it together may be gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.descent.bucket import Bucket, gather, shared_patches
from engine.descent.kin import components, may_be_kin
from engine.descent.patch import Layout
from engine.descent.sketch import Sketch, fetch
from engine.descent.twin import Double, may_be_twins, twins


@dataclass(frozen=True)
class Clan:
    """Models that hang together.

    Attributes:
        lines: of all of them, see `Sketch.line`, in order.
        part: ids of those that are nobody's twins, in order; they are a component.
        twins: the others, in order.
    """

    lines: tuple[str, ...]
    part: tuple[str, ...]
    twins: tuple[Double, ...] = ()

    @property
    def same(self) -> dict[str, str]:
        """Each model → the one that stands for it: of a twin, the last it is a twin of."""
        of = {twin.model: twin.of for twin in self.twins}
        found = {model: model for model in self.part}
        for model in of:
            last = model
            while last in of:
                last = of[last]
            found[model] = last
        return found


@dataclass
class Clans:
    """The clans of a catalog.

    Attributes:
        found: by digest of the patches that their group shares, for by those they were compared.
        unsound: lines of models that hold NaN or infinity.
    """

    found: dict[str, tuple[Clan, ...]] = field(default_factory=dict)
    unsound: list[str] = field(default_factory=list)

    @property
    def sound(self) -> set[str]:
        """Lines of all models that are in clans."""
        return {line for some in self.found.values() for clan in some for line in clan.lines}

    def add(self, group: Sequence[Sketch], clans: Sequence[Clan]) -> None:
        """Keep the clans of a group."""
        key = _shared(group)
        self.found[key] = (*self.found.get(key, ()), *sorted(clans, key=lambda clan: clan.lines))

    def grown(self, group: Sequence[Sketch]) -> list[Clan]:
        """The clans of a group, of which some may be known; they are those that `clans_of` finds, in any order."""
        places = {s.line: i for i, s in enumerate(group)}
        kept = [c for c in self.found.get(_shared(group), ()) if places.keys() >= set(c.lines)]
        old = {line for clan in kept for line in clan.lines}
        new = [i for line, i in places.items() if line not in old]
        if not new:
            return kept
        if len(new) * 2 > len(group):
            return clans_of(group)
        fetch(group)
        bucket = gather(group)
        touched = may_be_kin(bucket, np.array(new)) | may_be_twins(bucket, new)
        far = [clan for clan in kept if not touched[[places[line] for line in clan.lines]].any()]
        apart = {line for clan in far for line in clan.lines}
        near = [i for line, i in places.items() if line not in apart]
        return [*far, *_made(bucket.of(near), [group[i].line for i in near])]


def clans_of(group: Sequence[Sketch]) -> list[Clan]:
    """Compare all models of a group with each other."""
    fetch(group)
    return _made(gather(group), [sketch.line for sketch in group])


def _made(bucket: Bucket, lines: Sequence[str]) -> list[Clan]:
    """The clans of a bucket, whose models' lines these are."""
    doubles = twins(bucket)
    of = {twin.model: twin.of for twin in doubles}
    single = bucket.of([i for i in range(len(bucket)) if i not in of]) if of else bucket
    parts = [[single.models[i] for i in part] for part in components(single)]
    homes = {model: at for at, part in enumerate(parts) for model in part}
    members: list[list[str]] = [[] for _ in parts]
    for i, line in enumerate(lines):
        last = i
        while last in of:
            last = of[last]
        homes[bucket.models[i]] = homes[bucket.models[last]]
        members[homes[bucket.models[i]]].append(line)
    pairs: list[list[Double]] = [[] for _ in parts]
    for twin in doubles:
        model = bucket.models[twin.model]
        pairs[homes[model]].append(Double(model, bucket.models[twin.of], twin.kind, twin.lossy))
    return [
        Clan(tuple(own), tuple(part), tuple(some))
        for own, part, some in zip(members, parts, pairs, strict=True)
    ]


def _shared(group: Sequence[Sketch]) -> str:
    """Hex digest of the patches that models share."""
    layouts = {sketch.layout.digest: sketch.layout for sketch in group}
    return Layout(tuple(shared_patches(list(layouts.values())))).digest
