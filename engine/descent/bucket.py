"""Buckets: models whose patches lie on the same coordinates, side by side, so that they can be subtracted.

Tensors that some of the models lack, or have in another shape, are left out; a vocabulary that grew keeps the rows all
have. Squared lengths are estimates of those of whole matrices: a scalar counts for all the entries it stands for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.descent.patch import Layout, Patch, inside, overlap
from engine.descent.sketch import Sketch

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

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
    """

    models: tuple[str, ...]
    dtypes: tuple[str, ...]
    values: Singles
    spans: tuple[Span, ...]
    rows: tuple[int, ...]

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

        Σ_t n_t/2 log(1 + D_t / (s_t ulp²/12)) over whole matrices, by tensor: a tensor that did not change costs
        nothing, and one that changed much no more than its logarithm, so that no few tensors outweigh all others.
        """
        total, n_all = np.zeros((len(self), len(self))), 0.0
        for span in self.matrices():
            part = self.values[:, span.slice].astype(np.float64)
            ulp = np.array([
                rounding_energy(row, dtype).mean()
                for row, dtype in zip(self.values[:, span.slice], self.dtypes, strict=True)
            ])  # fmt: skip
            part -= part.mean(0)
            apart = _apart(part)
            floor = np.maximum(ulp[:, None], ulp[None, :]) * part.shape[1]
            scale = np.divide(apart, floor, out=np.zeros_like(apart), where=floor > 0)
            n_entries = span.patch.share * part.shape[1]
            total += 0.5 * n_entries * np.log1p(scale)
            n_all += n_entries
        np.fill_diagonal(total, 0.0)
        rows = np.array(self.rows)
        other: Floats = _OTHER_ROWS * (rows[:, None] != rows[None, :])
        return np.asarray(total / max(1.0, n_all) + other)

    @cached_property
    def floors(self) -> Floats:
        """Energy that rounding to its dtype adds to each model, were it computed exactly: (n,)."""
        return np.array([
            float((rounding_energy(v, d) * self.counts).sum())
            for v, d in zip(self.values, self.dtypes, strict=True)
        ])  # fmt: skip

    def matrices(self) -> Iterator[Span]:
        """The patches that are not of vectors."""
        return (span for span in self.spans if not span.patch.is_vector)

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


_BLOCK = 1 << 14
_NEAR = 1e-9  # of the squared lengths; below it a difference of products has lost its digits
_OTHER_ROWS = 0.01  # nats an entry, of another vocabulary


_SUBNORMAL = {"F16": -13}
"""Least exponent, as frexp has it, by dtype: steps get no smaller below."""


def _apart(part: Floats) -> Floats:
    """Squared distances of rows, (n, s) → (n, n): exactly 0 for equal ones."""
    sizes = np.square(part).sum(1)
    both = sizes[:, None] + sizes[None, :]
    apart: Floats = np.maximum(both - 2 * (part @ part.T), 0.0)
    for i, near in enumerate(apart <= _NEAR * both):
        apart[i, near] = np.square(part[near] - part[i]).sum(1)
    return apart


_SINGLE = 23
_ARITHMETIC = 2
"""Bits that sums in float32 lose: products, sums and the result are rounded, so that it is within 2 ulps of the exact one."""


def rounding_energy(values: Singles, dtype: str) -> Floats:
    """Mean square of the error that rounding leaves on each value: ulp² / 12; of float32, what its arithmetic leaves; (s,)."""
    _, exponents = np.frexp(values)
    exponents = np.maximum(exponents, _SUBNORMAL.get(dtype, -125))
    bits = MANTISSA.get(dtype, _SINGLE) - (
        _ARITHMETIC if MANTISSA.get(dtype, _SINGLE) >= _SINGLE else 0
    )
    ulp = np.ldexp(1.0, exponents.astype(np.int64) - 1 - bits)
    return np.where(values == 0, 0.0, np.square(ulp) / 12)


def gather(sketches: Sequence[Sketch]) -> Bucket:
    """Put sketches side by side, on the scalars they share.

    Args:
        sketches: of any layouts.
    """
    layouts = list({sketch.layout.digest: sketch.layout for sketch in sketches}.values())
    shared = [p for p in map(_shared, *(_in_order(layouts))) if p is not None]
    ends = np.cumsum([0, *(patch.size for patch in shared)]).tolist()
    spans = tuple(Span(p, *each) for p, each in zip(shared, pairwise(ends), strict=True))
    values = np.empty((len(sketches), ends[-1]), np.float32)
    places = {layout.digest: _places(layout, shared) for layout in layouts}
    for row, sketch in zip(values, sketches, strict=True):
        row[:] = sketch.values[places[sketch.layout.digest]]
    models, dtypes = tuple(s.model for s in sketches), tuple(s.dtype for s in sketches)
    names = {patch.tensor for patch in shared}
    rows = tuple(sum(p.shape[0] for p in s.layout.patches if p.tensor in names) for s in sketches)
    return Bucket(models, dtypes, values, spans, rows)


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
