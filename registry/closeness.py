"""Closeness: how near models lie to each other, and how their deltas lie, from stored sketches; no weights are read.

A sketch holds the same scalars of every model of a shape (`engine.descent.patch`), so that two of them can be
subtracted. Distances are taken matrix by matrix, each relative to its own size, since what scales a matrix seldom
changes what a network computes; lengths and angles of deltas are estimates of those of whole models: a scalar counts for
all the entries it stands for. Norms and biases are left out: their values are alike in all models.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, groupby
from math import hypot, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.catalog import Catalog
from registry.database import Row

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]

BATCH = 64
"""Sketches that are held at once: 8 MiB of the usual size."""


@dataclass(frozen=True)
class Closeness:
    """How near two models lie.

    Attributes:
        distance: √(mean over matrices of ‖a − b‖² / (‖a‖² + ‖b‖²)): 0 for equal ones, about 1 for strangers, whose
            weights are at right angles.
        cosine: of their weights, in [-1, 1]; about 0 for strangers.
    """

    distance: float
    cosine: float


@dataclass(frozen=True)
class Crossing:
    """How two deltas to one base lie to each other.

    Attributes:
        cosine: in [-1, 1]; 1 where one repeats the other, 0 where they have nothing to do with each other.
        conflict: share of the entries both changed where the signs differ, in [0, 1]; ½ at right angles.
        ratio: the longer one's length over the shorter one's, at least 1.
    """

    cosine: float
    conflict: float
    ratio: float


@dataclass(frozen=True)
class Pair:
    """What is known of how two models lie to each other.

    Attributes:
        a, b: ids.
        closeness: of their sketches; None without.
        crossing: of their deltas to the common base; None where a sketch is missing or one is the base.
        distance: of their sketches, else what the lengths of measured deltas let expect; None where nothing is known.
    """

    a: str
    b: str
    closeness: Closeness | None
    crossing: Crossing | None
    distance: float | None


@dataclass(frozen=True)
class Sampled:
    """The stored sketch of one model.

    Attributes:
        model: id.
        patches: where its scalars are: JSON, the same text for models that share their coordinates.
        values: (s,) float32.
    """

    model: str
    patches: str
    values: Singles


def sampled(catalog: Catalog, models: Sequence[str], spec: str) -> Iterator[list[Sampled]]:
    """The sketches of models by one specification, in batches that share their coordinates.

    Models without one, and sketches with NaN or infinity, are left out. Rows are read where they lie, by their numbers:
    a search by names would read all of a catalog's sketches for every batch.

    Args:
        catalog: where they are stored.
        models: ids.
        spec: of their making; others cannot be compared with them.
    """
    with catalog.read() as reader:
        places = reader.rows(
            "select rowid as place from store.sketch where spec = ? and model_id in (select store.each(?))",
            [spec, list(models)],
        )
        wanted = set(models)
        for first, last in _runs(sorted(row["place"] for row in places)):
            rows = reader.rows(
                "select model_id, patches, scalars from store.sketch where spec = ? and rowid between ? and ?",
                [spec, first, last],
            )
            found = (_read(row) for row in rows if row["model_id"] in wanted)
            finite = [each for each in found if np.isfinite(each.values).all()]
            finite.sort(key=lambda each: (each.patches, each.model))
            for _, group in groupby(finite, key=lambda each: each.patches):
                yield list(group)


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of runs of ascending numbers that lie within `BATCH`."""
    at = 0
    while at < len(places):
        end = bisect_left(places, places[at] + BATCH)
        yield places[at], places[end - 1]
        at = end


def _read(row: Row) -> Sampled:
    """A sketch as it is stored."""
    values = np.frombuffer(row["scalars"], "<f4").astype(np.float32, copy=False)
    return Sampled(row["model_id"], row["patches"], values)


def best_spec(catalog: Catalog, models: Sequence[str]) -> str | None:
    """The specification by which most of some models have sketches; of several the one with the most scalars."""
    rows: list[Row] = catalog.rows(
        "select spec from store.sketch where model_id in (select store.each(?)) group by spec "
        "order by count(*) desc, max(n_scalars) desc, spec limit 1",
        [list(models)],
    )
    return str(rows[0]["spec"]) if rows else None


class Common:
    """The scalars of matrices that two sketches share.

    Patches of a tensor are shared where they lie on the same rows and columns of equal width: of a vocabulary that
    grew, those of the tokens both have.

    Attributes:
        n: scalars.
        of_a, of_b: (n,) where they are among each sketch's.
        starts: where each matrix's scalars begin among them.
        counts: (n,) entries that each scalar stands for.
    """

    def __init__(self, a: str, b: str) -> None:
        ours, theirs = _placed(a), _placed(b)
        found = [(*ours[key], theirs[key][0]) for key in ours if key in theirs]
        ends = np.cumsum([0, *(size for _, size, _, _ in found)])
        self.n, self.starts = int(ends[-1]), ends[:-1]
        if not found:
            found = [(0, 0, 0.0, 0)]
        self.of_a = np.concatenate([np.arange(at, at + size) for at, size, _, _ in found])
        self.of_b = np.concatenate([np.arange(at, at + size) for _, size, _, at in found])
        self.counts = np.concatenate([np.full(size, share) for _, size, share, _ in found])

    def sums(self, values: Singles) -> Doubles:
        """Sums over each matrix, in an order that is the same for one row and for many: (…, n) → (…, matrices)."""
        found: Doubles = np.add.reduceat(values, self.starts, axis=-1).astype(np.float64)
        return found

    def whole(self, sums: Doubles) -> Doubles:
        """What sums of sampled entries let expect of whole models: (…, matrices) → (…,)."""
        return np.asarray((sums * self.counts[self.starts]).sum(-1))


@lru_cache(maxsize=8)
def common_of(a: str, b: str) -> Common:
    """The scalars that sketches with these patches share."""
    return Common(a, b)


def _placed(patches: str) -> dict[tuple[Any, ...], tuple[int, int, float]]:
    """Where each matrix's patch is → its place among the scalars, its size, the entries each scalar stands for."""
    found, at = {}, 0
    for name, rows, columns, row, n_rows, column, n_columns, is_vector in json.loads(patches):
        size = n_rows * n_columns
        if not is_vector:
            key = (name, columns, row, n_rows, column, n_columns)
            found[key] = (at, size, rows * columns / max(1, size))
        at += size
    return found


def closeness(a: Sampled, b: Sampled) -> Closeness | None:
    """How near two models lie; None where their sketches share nothing or one is all zeros."""
    return closenesses(a, [b])[0]


def closenesses(a: Sampled, others: Sequence[Sampled]) -> list[Closeness | None]:
    """How near others lie to one model.

    Args:
        a: one.
        others: at least one, which share their coordinates.
    """
    common = common_of(a.patches, others[0].patches)
    if not common.n:
        return [None] * len(others)
    one, many = a.values[common.of_a], _stacked(others)[:, common.of_b]
    ours, theirs, apart, dots = (
        common.sums(x) for x in (np.square(one), np.square(many), np.square(many - one), many * one)
    )
    both = theirs + ours
    relative = np.divide(apart, both, out=np.zeros_like(both), where=both > 0).mean(-1)
    sizes = np.sqrt(common.whole(theirs) * common.whole(ours))
    return [
        Closeness(sqrt(distance), min(1.0, max(-1.0, dot / size))) if size > 0 else None
        for distance, dot, size in zip(
            relative.tolist(), common.whole(dots).tolist(), sizes.tolist(), strict=True
        )
    ]


def overlaps(a: Sampled, base: Sampled, others: Sequence[Sampled]) -> list[float | None]:
    """The cosines of one model's delta with others', in [-1, 1]; None where one of them is zero or nothing is shared.

    Args:
        a: one.
        base: what all are compared with.
        others: at least one, which share their coordinates.
    """
    if len({a.patches, base.patches, others[0].patches}) > 1:
        return [None] * len(others)
    common = common_of(a.patches, base.patches)
    root = base.values[common.of_a]
    own, deltas = a.values[common.of_a] - root, _stacked(others)[:, common.of_a] - root
    length, dots, sizes = (
        common.whole(common.sums(x)) for x in (np.square(own), deltas * own, np.square(deltas))
    )
    lengths = np.sqrt(sizes * length)
    return [
        min(1.0, max(-1.0, dot / size)) if size > 0 else None
        for dot, size in zip(dots.tolist(), lengths.tolist(), strict=True)
    ]


def _stacked(others: Sequence[Sampled]) -> Singles:
    """Values side by side: (n, s)."""
    return np.stack([other.values for other in others])


def crossing(a: Sampled, b: Sampled, base: Sampled) -> Crossing | None:
    """How the deltas of two models to their base lie to each other; None where one of them is zero or nothing is shared.

    Args:
        a: one.
        b: the other.
        base: what both are compared with.
    """
    if len({a.patches, b.patches, base.patches}) > 1:
        return None
    common = common_of(a.patches, base.patches)
    first, second, root = (each.values[common.of_a].astype(np.float64) for each in (a, b, base))
    first, second = first - root, second - root
    counts = common.counts
    sizes = [sqrt(float(counts @ np.square(delta))) for delta in (first, second)]
    if min(sizes, default=0.0) <= 0:
        return None
    both = counts @ ((first != 0) & (second != 0))
    against = counts @ (np.sign(first) * np.sign(second) < 0)
    cosine = float(counts @ (first * second)) / (sizes[0] * sizes[1])
    return Crossing(
        float(np.clip(cosine, -1, 1)),
        float(against / both) if both else 0.0,
        max(sizes) / min(sizes),
    )


def expected(relative: Sequence[float]) -> float:
    """The distance of two models of which only the lengths of their deltas are known.

    Deltas of different trainings are about at right angles, so that ‖a − b‖² = ‖δa‖² + ‖δb‖².

    Args:
        relative: ‖δ‖ / ‖base‖ of both.
    """
    return hypot(*relative) / sqrt(2)


def shelf(catalog: Catalog, models: Sequence[str]) -> dict[str, Sampled]:
    """The sketches of some models that can be compared with each other: id → sketch.

    Args:
        catalog: where they are stored.
        models: ids, few enough to hold all at once.
    """
    spec = best_spec(catalog, models)
    return (
        {found.model: found for batch in sampled(catalog, models, spec) for found in batch}
        if spec
        else {}
    )


def pairs_of(
    models: Sequence[str],
    base: str | None,
    sketched: Mapping[str, Sampled],
    relative: Mapping[str, float | None],
) -> tuple[Pair, ...]:
    """How models lie to each other; a single one, to its base.

    Args:
        models: ids, each once.
        base: id of their common base, possibly one of them; None where there is none.
        sketched: id → sketch, of those that have one.
        relative: id → ‖δ‖ / ‖base‖ of those whose deltas are measured.
    """
    lengths = dict(relative) | ({base: 0.0} if base else {})
    found = []
    for a, b in combinations(
        models if len(models) > 1 else [*models, *([base] if base else [])], 2
    ):
        one, other, root = (sketched.get(model or "") for model in (a, b, base))
        near = closeness(one, other) if one and other else None
        across = crossing(one, other, root) if one and other and root else None
        ours, theirs = lengths.get(a), lengths.get(b)
        guess = None if ours is None or theirs is None else expected((ours, theirs))
        found.append(Pair(a, b, near, across, near.distance if near else guess))
    return tuple(found)
