"""Buckets: models whose patches lie on the same coordinates, side by side, so that they can be subtracted.

Tensors that some of the models lack, or have in another shape, are left out; a vocabulary that grew keeps the rows all
have. Squared lengths are estimates of those of whole matrices: a scalar counts for all the entries it stands for.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, wraps
from itertools import pairwise
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.descent.blank import Blanks
from engine.descent.patch import Layout, Patch, inside, overlap
from engine.descent.pile import Floats, Pile, Singles, piled
from engine.descent.sketch import Sketch

T = TypeVar("T")
P = ParamSpec("P")

MANTISSA = {"BF16": 7, "F16": 10, "F32": 23, "F64": 23}
"""Stored bits of a significand, by dtype; sketches are float32."""


@dataclass(frozen=True)
class Span:
    """One patch of a bucket: its columns among all scalars."""

    patch: Patch
    start: int
    stop: int

    @property
    def slice(self) -> slice:
        """Its scalars."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Bucket:
    """n models on the same s scalars.

    Attributes:
        models: their ids.
        dtypes: what they are stored in.
        values: (n, s) float32, as stored.
        spans: where each patch is, in order of names.
        rows: of each model, the rows of its tensors altogether: more tokens, more rows.
        told: what `once` remembers.
        blanks: what `searched` remembers.
    """

    models: tuple[str, ...]
    dtypes: tuple[str, ...]
    values: Singles
    spans: tuple[Span, ...]
    rows: tuple[int, ...]
    told: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False, compare=False)
    blanks: Blanks = field(default_factory=Blanks, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.models)

    @cached_property
    def counts(self) -> Floats:
        """Entries that each scalar stands for; 0 for those of vectors, whose gains all start at 1: (s,)."""
        parts = [
            np.full(s.stop - s.start, 0.0 if s.patch.is_vector else s.patch.share)
            for s in self.spans
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    @cached_property
    def gram(self) -> Floats:
        """Inner products of the models less their mean, of whole matrices: (n, n)."""
        root = np.sqrt(self.counts)
        total = np.zeros((len(self), len(self)))
        for at in range(0, self.values.shape[1], _BLOCK):
            part = self.values[:, at : at + _BLOCK].astype(np.float64)
            part -= part.mean(0)
            part *= root[at : at + _BLOCK]
            total += part @ part.T
        return total

    @cached_property
    def distances(self) -> Floats:
        """Squared L2 distances: (n, n), at least 0."""
        size = np.diag(self.gram)
        found = np.maximum(size[:, None] + size[None, :] - 2 * self.gram, 0.0)
        np.fill_diagonal(found, 0.0)
        return found

    @cached_property
    def costs(self) -> Floats:
        """Nats an entry that telling one model takes when the other is known: (n, n), symmetric, 0 for equal ones.

        The rows of each patch's difference D, (r, c), are coded as normal with a covariance of their own, above what
        rounding leaves: c/2 log det(1 + D D' / (c ulp²/6)), for as many entries as the patch stands for. So a tensor,
        or a direction, that did not change costs nothing, and one that changed much no more than its logarithm: what
        many children have learned alike lies in few directions, and does not outweigh what tells them apart in all
        others. One ulp, the models' median, is the measure of all, so that costs compare whatever the dtypes. Of models
        that are not among each other's nearest, the largest value that it can have.
        """
        n, total, n_all = len(self), np.zeros((len(self), len(self))), 0.0
        floors, near = 0.0, _near(self.distances)
        ulps = 2 * np.median(self.ulps, axis=0)
        for pile in (part for whole in self.piles for part in whole.split(_PART // max(1, n))):
            least = ulps[pile.places]
            total += nats(pile.of(self.values), least, near, pile.shares)
            floors += pile.n_rows * pile.n_columns * float(pile.shares @ least)
            n_all += pile.n_rows * pile.n_columns * float(pile.shares.sum())
        most = 0.5 * np.log1p(self.distances / max(floors, _TINY))
        found = np.where(near, total / max(1.0, n_all), most)
        np.fill_diagonal(found, 0.0)
        rows_of = np.array(self.rows)
        return np.asarray(found + _OTHER_ROWS * (rows_of[:, None] != rows_of[None, :]))

    @cached_property
    def ulps(self) -> Floats:
        """Energy that rounding adds to an entry, in the mean, of each model and each matrix's patch: (n, m)."""
        found = np.zeros((len(self), len(self.matrices())))
        for dtype in sorted(set(self.dtypes)):
            rows = np.array([d == dtype for d in self.dtypes])
            for i, span in enumerate(self.matrices()):
                found[rows, i] = rounding_energy(self.values[rows, span.slice], dtype).mean(1)
        return found

    @cached_property
    def floors(self) -> Floats:
        """Energy that rounding to its dtype adds to each model, were it computed exactly: (n,)."""
        return np.array([
            float((rounding_energy(v, d) * self.counts).sum())
            for v, d in zip(self.values, self.dtypes, strict=True)
        ])  # fmt: skip

    @cached_property
    def digest(self) -> str:
        """Hex digest of the patches: of which entries of its models it has."""
        return Layout(tuple(span.patch for span in self.spans)).digest

    def key(self, search: str, places: Iterable[int]) -> str:
        """What a search is known by that looks at the entries of some models, in this order."""
        lines = (f"{self.models[i]}\0{self.dtypes[i]}" for i in places)
        return self.blanks.key(search, (self.digest, *lines))

    def matrices(self) -> tuple[Span, ...]:
        """The patches that are not of vectors."""
        return self._matrices

    @cached_property
    def _matrices(self) -> tuple[Span, ...]:
        """What `matrices` gives."""
        return tuple(span for span in self.spans if not span.patch.is_vector)

    @cached_property
    def piles(self) -> tuple[Pile, ...]:
        """The patches of matrices by shape; of models that have all entries of their patches."""
        return piled([(span.patch, span.start) for span in self.matrices()])

    def nearest(self, place: int, among: Sequence[int], most: int) -> list[int]:
        """The nearest of some models to one, itself left out, the nearest first; of equally near ones in order."""
        others = np.array(sorted(i for i in among if i != place), dtype=np.int64)
        order = np.argsort(self.distances[place, others], kind="stable")[:most]
        return [int(i) for i in others[order]]

    def of(self, places: Sequence[int]) -> "Bucket":
        """Some of its models."""
        return Bucket(
            tuple(self.models[i] for i in places), tuple(self.dtypes[i] for i in places),
            self.values[list(places)], self.spans,
            tuple(self.rows[i] for i in places),
        )  # fmt: skip

    def energy(self, differences: Singles | Floats) -> float:
        """Squared length of a difference of models, (s,), of whole matrices."""
        return float((np.square(differences, dtype=np.float64) * self.counts).sum())


def once(work: Callable[Concatenate[Bucket, P], T]) -> Callable[Concatenate[Bucket, P], T]:
    """Work out once what is asked of the same models of a bucket again and again.

    Args:
        work: a pure function of a bucket, of places in it and other whole numbers, whose value is small.
    """

    @wraps(work)
    def remembered(bucket: Bucket, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (work.__qualname__, *args, *kwargs.values())
        if key not in bucket.told:
            bucket.told[key] = work(bucket, *args, **kwargs)
        found: T = bucket.told[key]
        return found

    return remembered


def searched(
    most: int,
) -> Callable[
    [Callable[[Bucket, int, list[int]], T | None]],
    Callable[[Bucket, int, Sequence[int]], T | None],
]:
    """Look for something in a model and its nearest, unless it is known that nothing is there.

    Args:
        most: how many of those it is looked for among.

    Returns:
        Makes of a search, a pure function of the entries of a model and its nearest, the nearest first, one among any.
    """

    def made(
        work: Callable[[Bucket, int, list[int]], T | None],
    ) -> Callable[[Bucket, int, Sequence[int]], T | None]:
        name = f"{work.__module__}.{work.__qualname__}"

        @wraps(work)
        def search(bucket: Bucket, child: int, among: Sequence[int]) -> T | None:
            near = bucket.nearest(child, among, most)
            key = bucket.key(name, (child, *near))
            return bucket.blanks.search(key, lambda: work(bucket, child, near))

        return search

    return made


_BLOCK = 1 << 14
_PART = 1 << 22  # scalars of all models that are taken apart at a time
_OTHER_ROWS = 0.05  # nats an entry, of another vocabulary


_SUBNORMAL = {"F16": -13}  # least exponent, as frexp has it, by dtype: steps get no smaller below


_TINY = 1e-100  # below the square of any rounding
_KIN = 16  # models that each is compared with direction by direction
_BLOCK_ROWS = 64


def _near(distances: Floats) -> NDArray[np.bool_]:
    """Pairs one of which is among the nearest of the other: (n, n), symmetric."""
    order = np.argsort(distances, axis=1, kind="stable")[:, : _KIN + 1]
    near = np.zeros(distances.shape, bool)
    np.put_along_axis(near, order, values=True, axis=1)
    return near | near.T


def nats(
    parts: Singles | Floats, floors: Floats, pairs: NDArray[np.bool_], weights: Floats
) -> Floats:
    """Nats that the differences of matrices take, their rows normal with one covariance: (n, n), symmetric.

    Args:
        parts: m matrices of each model, (n, m, r, c); the shorter side is taken for rows, and of many rows blocks.
        floors: variance of an entry's rounding in each, (m,).
        pairs: which models, (n, n) symmetric; the others get 0.
        weights: how often each matrix counts, (m,).
    """
    parts = parts if parts.shape[2] <= parts.shape[3] else parts.swapaxes(2, 3)
    n, _, rows, columns = parts.shape
    found = np.zeros((n, n))
    scales = 1 / (columns * np.maximum(floors, _TINY))[:, None, None]
    for block in np.array_split(parts, -(-rows // _BLOCK_ROWS), axis=2):
        one = np.eye(block.shape[2])
        for i in range(n):
            others = np.flatnonzero(pairs[i, i + 1 :]) + i + 1
            apart = block[others].astype(np.float64) - block[i]
            energy = apart @ apart.swapaxes(2, 3) * scales
            found[i, others] += 0.5 * columns * (np.linalg.slogdet(one + energy)[1] @ weights)
    return found + found.T


def rounding_energy(values: Singles, dtype: str) -> Floats:
    """Mean square of the error that rounding leaves on each value, ulp² / 12, of float32 what its arithmetic leaves.

    Sums in float32 round products, sums and the result, and so are within 2 ulps of the exact one. Of the values' shape.
    """
    exponents = values.view(np.uint32) >> np.uint32(23) & np.uint32(0xFF)
    return np.where(values == 0, 0.0, _energies(dtype)[exponents])


@cache
def _energies(dtype: str) -> Floats:
    """Energy of rounding by a float32's stored exponent: (256,)."""
    exponents = np.maximum(np.arange(256) - _BIAS, _SUBNORMAL.get(dtype, 1 - _BIAS))
    bits = MANTISSA.get(dtype, _SINGLE)
    bits -= _ARITHMETIC if bits >= _SINGLE else 0
    found: Floats = np.square(np.ldexp(1.0, exponents - 1 - bits)) / 12
    return found


_SINGLE, _ARITHMETIC = 23, 2  # bits of float32, and those its sums lose
_BIAS = 126  # of exponents as frexp has them, whose significands are below 1


def gather(sketches: Sequence[Sketch], blanks: Blanks | None = None) -> Bucket:
    """Put sketches side by side, on the scalars they share.

    Args:
        sketches: of any layouts.
        blanks: what is known of them.
    """
    layouts = list({sketch.layout.digest: sketch.layout for sketch in sketches}.values())
    shared = shared_patches(layouts)
    ends = np.cumsum([0, *(patch.size for patch in shared)]).tolist()
    spans = tuple(Span(p, *each) for p, each in zip(shared, pairwise(ends), strict=True))
    values = np.empty((len(sketches), ends[-1]), np.float32)
    places: dict[str, NDArray[np.int64] | slice] = {
        layout.digest: _places(layout, shared) if layout.patches != tuple(shared) else slice(None)
        for layout in layouts
    }
    for row, sketch in zip(values, sketches, strict=True):
        row[:] = sketch.values[places[sketch.layout.digest]]
    models, dtypes = tuple(s.model for s in sketches), tuple(s.dtype for s in sketches)
    names = {patch.tensor for patch in shared}
    heights = {
        layout.digest: sum(p.shape[0] for p in layout.patches if p.tensor in names)
        for layout in layouts
    }
    rows = tuple(heights[sketch.layout.digest] for sketch in sketches)
    return Bucket(models, dtypes, values, spans, rows, blanks=blanks or Blanks())


def shared_patches(layouts: Sequence[Layout]) -> list[Patch]:
    """What the patches of layouts have in common, in order of names."""
    return [p for p in map(_shared, *(_in_order(layouts))) if p is not None]


def _in_order(layouts: Sequence[Layout]) -> list[list[Patch]]:
    """The patches of each layout whose tensors all have, in order of their names."""
    tables = [{patch.tensor: patch for patch in layout.patches} for layout in layouts]
    names = sorted(set(tables[0]).intersection(*tables[1:]))
    return [[table[name] for name in names] for table in tables]


def _shared(*patches: Patch) -> Patch | None:
    """What patches of one tensor have in common, as a part of the first; None for nothing."""
    common: Patch | None = patches[0]
    for patch in patches[1:]:
        common = None if common is None else overlap(common, patch)
    return common


def _places(layout: Layout, shared: Sequence[Patch]) -> NDArray[np.int64]:
    """Where the scalars of some patches are among those of a layout."""
    starts, at = {}, 0
    for patch in layout.patches:
        starts[patch.tensor] = (at, patch)
        at += patch.size
    found = [np.zeros(0, np.int64)]
    for part in shared:
        start, of = starts[part.tensor]
        found.append(start + inside(part, of))
    return np.concatenate(found)
