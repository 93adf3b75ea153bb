"""Sketches: the scalars of a model's patches, read by a few hundred small reads, whatever the model's size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from engine.descent.invariant import Values, invariants
from engine.descent.patch import Layout, Patch, layout_of, whole
from engine.reader import DTYPES, FLOATS, Reader
from registry.header import TensorRef

_LONG_ROW_BYTES = 64 << 10  # of a tensor; what lies between two patches' rows is not read beyond


class Shelved(Protocol):
    """Values that lie on a shelf until somebody asks for them."""

    def fetch(self, models: Sequence[str]) -> None:
        """Read those of some models at once; those that were read before are not read again."""

    def of(self, model: str) -> Values:
        """Those of a model; where they were not fetched, all there are are read."""


@dataclass(frozen=True)
class Sketch:
    """What is known of one model's weights.

    Attributes:
        model: id.
        dtype: that most of its bytes are stored in, as safetensors spells it.
        layout: which scalars.
        held: its values, or where they lie.
        invariants: of the matrices at its edges, see `engine.descent.invariant`.
        read_bytes: what was read for it.
        own_names: of its tensors, in the layout's order, where the layout has another model's; else none.
    """

    model: str
    dtype: str
    layout: Layout
    held: Values | Shelved
    invariants: dict[str, Values]
    read_bytes: int
    own_names: tuple[str, ...] = ()

    @property
    def values(self) -> Values:
        """The scalars: (layout.size,) float32, patch by patch, row by row."""
        return self.held if isinstance(self.held, np.ndarray) else self.held.of(self.model)

    @property
    def line(self) -> str:
        """All that its scalars follow from: id, dtype, and which entries of the model they are, of which tensors."""
        line = f"{self.model}\0{self.dtype}\0{self.layout.digest}"
        return "\0".join((line, *self.own_names))


def fetch(sketches: Sequence[Sketch]) -> None:
    """Read the values of sketches that lie on a shelf, all at once, for they will be asked for."""
    shelves: dict[int, tuple[Shelved, list[str]]] = {}
    for sketch in sketches:
        if not isinstance(sketch.held, np.ndarray):
            shelves.setdefault(id(sketch.held), (sketch.held, []))[1].append(sketch.model)
    for shelf, models in shelves.values():
        shelf.fetch(models)


def weights(tensors: Sequence[TensorRef]) -> list[TensorRef]:
    """The tensors whose values are weights."""
    return [ref for ref in tensors if ref.dtype in FLOATS]


def layout_for(tensors: Sequence[TensorRef], n_scalars: int | None) -> Layout:
    """The patches of a model's weights: about so many scalars; None: all."""
    shapes = [(ref.name, ref.shape) for ref in tensors]
    return whole(shapes) if n_scalars is None else layout_of(shapes, n_scalars)


def take(reader: Reader, model: str, tensors: Sequence[TensorRef], layout: Layout) -> Sketch:
    """Read a sketch.

    Args:
        reader: of the tensors' files.
        model: its id.
        tensors: of the model whose values are weights, as stored; at least one.
        layout: made of them.

    Raises:
        FileChanged, RunFailed, NotFetched, UnsupportedDtype: as `engine.reader.Reader.flat`.
    """
    by_name = {ref.name: ref for ref in tensors}
    values = np.empty(layout.size, np.float32)
    at = n_bytes = 0
    for patch in layout.patches:
        found, n_read = _read(reader, by_name[patch.tensor], patch)
        values[at : at + patch.size] = found
        at += patch.size
        n_bytes += n_read
    turned, n_read = invariants(reader, tensors)
    dtype = max(tensors, key=lambda ref: ref.n_bytes).dtype
    return Sketch(model, dtype, layout, values, turned, n_bytes + n_read)


def _read(reader: Reader, ref: TensorRef, patch: Patch) -> tuple[Values, int]:
    """The scalars of one patch, and the bytes read: its rows from its first column to its last; of long rows, no more."""
    columns = patch.shape[1]
    start = patch.row * columns + patch.column
    if patch.n_rows > 1 and columns * DTYPES[ref.dtype].itemsize > _LONG_ROW_BYTES:
        starts = [start + columns * i for i in range(patch.n_rows)]
        parts = [reader.flat(ref, at, at + patch.n_columns) for at in starts]
        n_bytes = sum(part.numel() * part.element_size() for part in parts)
        return np.concatenate([part.to(torch.float32).numpy() for part in parts]), n_bytes
    stop = (patch.row + patch.n_rows - 1) * columns + patch.column + patch.n_columns
    flat = reader.flat(ref, start, stop)
    n_bytes = flat.numel() * flat.element_size()
    rows = flat.as_strided((patch.n_rows, patch.n_columns), (columns, 1))
    return rows.to(torch.float32).contiguous().numpy().reshape(-1), n_bytes
