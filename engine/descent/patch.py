"""Patches: which scalars of a model are looked at, the same ones in every model of its shapes.

Where a patch lies follows from a tensor's shape alone, never from its name, so that tensors that were renamed or moved
to another layer can still be compared. Patches are rectangles: rows of the same matrix next to each other, so that a
range of bytes holds them, and columns next to each other, so that grids of quantisation show.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from registry.fingerprint import digest_text
from registry.tensor_name import has_vocabulary, layer_of, split_layer

SPEC = "patches-1"
"""Name of these rules; sketches of other rules are never compared with those of these."""

N_SCALARS = 1 << 15
"""Scalars of a sketch, about."""

_MOST_MATRICES = 96
_MOST_VECTORS = 64
_VECTOR = 64  # entries looked at of a vector, at most
_DEEP = 8  # matrices of which more rows are read
_DEEP_ROWS = 64
_ROW_BYTES = 40 << 10  # of other matrices, as float32
_NARROW = 32  # columns of a patch, at least


@dataclass(frozen=True, slots=True)
class Patch:
    """Rows and columns of one tensor; a vector is one row.

    Attributes:
        tensor: its name.
        shape: as (rows, columns) of the tensor's slices along dim 0.
        row, n_rows, column, n_columns: what is looked at.
        is_vector: it has one dimension.
    """

    tensor: str
    shape: tuple[int, int]
    row: int
    n_rows: int
    column: int
    n_columns: int
    is_vector: bool

    @property
    def size(self) -> int:
        """Scalars."""
        return self.n_rows * self.n_columns

    @property
    def layer(self) -> int | None:
        """The layer its tensor belongs to; None outside of layers."""
        return layer_of(self.tensor)

    @property
    def share(self) -> float:
        """Entries of the tensor that each scalar stands for."""
        return self.shape[0] * self.shape[1] / max(1, self.size)


def overlap(a: Patch, b: Patch) -> Patch | None:
    """The rectangle that two patches of tensors with equal rows share, with the first's name; None for none."""
    if a.shape[1] != b.shape[1] or a.is_vector != b.is_vector:
        return None
    row, column = max(a.row, b.row), max(a.column, b.column)
    n_rows = min(a.row + a.n_rows, b.row + b.n_rows) - row
    n_columns = min(a.column + a.n_columns, b.column + b.n_columns) - column
    if n_rows <= 0 or n_columns <= 0:
        return None
    return replace(a, row=row, n_rows=n_rows, column=column, n_columns=n_columns)


def inside(part: Patch, of: Patch) -> NDArray[np.int64]:
    """Where the scalars of a part of a patch are among the patch's."""
    rows = np.arange(part.n_rows) + part.row - of.row
    columns = np.arange(part.n_columns) + part.column - of.column
    found: NDArray[np.int64] = (rows[:, None] * of.n_columns + columns[None]).reshape(-1)
    return found


Signature = tuple[tuple[str, int, bool], ...]


@dataclass(frozen=True)
class Layout:
    """The patches of a model, in order of names."""

    patches: tuple[Patch, ...]

    @cached_property
    def size(self) -> int:
        """Scalars of all patches."""
        return sum(patch.size for patch in self.patches)

    @cached_property
    def digest(self) -> str:
        """Hex digest of the patches; models that share it share their coordinates."""
        lines = (
            f"{p.tensor}\0{p.shape}\0{p.row},{p.n_rows},{p.column},{p.n_columns},{p.is_vector}"
            for p in self.patches
        )
        return digest_text("\n".join((SPEC, *lines)))

    @cached_property
    def signature(self) -> Signature:
        """Name, columns and whether it is a vector, of each patch: models that share these are compared by name."""
        return tuple((p.tensor, p.shape[1], p.is_vector) for p in self.patches)

    @cached_property
    def shapes(self) -> tuple[tuple[int, int, bool], ...]:
        """Shapes of the tensors, in order of size: models that share these may have each other's under other names."""
        return tuple(sorted((*p.shape, p.is_vector) for p in self.patches))

    @cached_property
    def layers(self) -> tuple[frozenset[tuple[str, tuple[int, int]]], ...]:
        """Of each layer, in order, its matrices: names within it, and shapes."""
        found: dict[int, set[tuple[str, tuple[int, int]]]] = defaultdict(set)
        for p in self.patches:
            parts = split_layer(p.tensor)
            if parts is not None and not p.is_vector:
                found[parts[1]].add((f"{parts[0]}.{parts[2]}", p.shape))
        return tuple(frozenset(found[layer]) for layer in sorted(found))


def whole(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> Layout:
    """Every entry of every tensor."""
    return Layout(tuple(
        Patch(name, _matrix(shape), 0, _matrix(shape)[0], 0, _matrix(shape)[1], len(shape) < 2)  # noqa: PLR2004
        for name, shape in sorted(tensors) if math.prod(shape)
    ))  # fmt: skip


def layout_of(tensors: Iterable[tuple[str, tuple[int, ...]]], n_scalars: int = N_SCALARS) -> Layout:
    """Choose about ``n_scalars`` scalars, spread evenly over matrices and layers.

    Args:
        tensors: names and shapes.
        n_scalars: how many; of a small model there may be fewer, and a few more for its vectors.
    """
    sized = [(name, shape) for name, shape in sorted(tensors) if math.prod(shape)]
    matrices = _spread([(n, s) for n, s in sized if len(s) > 1], _MOST_MATRICES)
    vectors = _spread([(n, s) for n, s in sized if len(s) < 2], _MOST_VECTORS)  # noqa: PLR2004
    per_vector = max(4, min(_VECTOR, n_scalars // (8 * max(1, len(vectors)))))
    left = n_scalars - sum(min(per_vector, math.prod(s)) for _, s in vectors)
    quota = max(16, left // max(1, len(matrices)))
    deep = {name for name, _ in _spread(matrices, _DEEP)}
    patches = [_vector(name, shape, per_vector) for name, shape in vectors]
    patches += [_patch(name, shape, quota, is_deep=name in deep) for name, shape in matrices]
    return Layout(tuple(sorted(patches, key=lambda p: p.tensor)))


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """A shape as rows and columns."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def _vector(name: str, shape: tuple[int, ...], most: int) -> Patch:
    """The first entries of a vector."""
    n = math.prod(shape)
    return Patch(name, (1, n), 0, 1, 0, min(n, most), is_vector=True)


def _patch(name: str, shape: tuple[int, ...], quota: int, *, is_deep: bool) -> Patch:
    """A rectangle of about ``quota`` scalars, higher than wide where many rows may be read."""
    rows, columns = _matrix(shape)
    most_rows = _DEEP_ROWS if is_deep else max(1, _ROW_BYTES // (4 * columns))
    n_columns = min(columns, max(_NARROW, math.isqrt(quota)))
    n_rows = min(rows, most_rows, max(1, round(quota / n_columns)))
    n_columns = min(columns, max(n_columns, round(quota / n_rows)))
    # tokens are counted from the front, so that a vocabulary that grew has the same rows
    span = min(rows, 64 if rows >= 256 else 8) if has_vocabulary(name) else rows  # noqa: PLR2004
    row = min(_place(f"{columns} rows", span), rows - n_rows)
    column = min(
        _place(f"{rows if not has_vocabulary(name) else 0}x{columns}", columns), columns - n_columns
    )
    column = column // _NARROW * _NARROW
    return Patch(name, (rows, columns), row, n_rows, column, n_columns, is_vector=False)


def _place(key: str, n: int) -> int:
    """A number below n that follows from a key."""
    return int(digest_text(f"{SPEC}\0{key}")[:12], 16) % max(1, n)


def _spread(
    tensors: list[tuple[str, tuple[int, ...]]], most: int
) -> list[tuple[str, tuple[int, ...]]]:
    """At most so many tensors: whole layers, chosen by their number alone, so that deeper models share them."""
    if len(tensors) <= most:
        return tensors
    layers: dict[int | None, list[tuple[str, tuple[int, ...]]]] = defaultdict(list)
    for tensor in tensors:
        layers[layer_of(tensor[0])].append(tensor)
    chosen: list[tuple[str, tuple[int, ...]]] = layers.pop(None, [])[:most]
    for layer in sorted(layers, key=lambda number: digest_text(f"{SPEC}\0layer {number}")):
        chosen += layers[layer][: max(0, most - len(chosen))]
    return sorted(chosen)
