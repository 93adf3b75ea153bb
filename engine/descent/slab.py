"""Slabs: the same entries of a few models, tensor by tensor and a slice at a time, whatever the models' size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.descent.pile import Singles
from engine.descent.sketch import weights
from engine.reader import Reader
from registry.checkpoint import Checkpoint
from registry.header import TensorRef

N_ENTRIES = 1 << 18
"""Entries of one tensor that are held at a time, of each model."""


@dataclass(frozen=True)
class Shared:
    """A tensor that a child has in common with its parents.

    Attributes:
        refs: the child's, then the parents', of one shape.
        rows, columns: of the matrix it is; a vector is one row.
        is_vector: it has one dimension.
    """

    refs: tuple[TensorRef, ...]
    rows: int
    columns: int
    is_vector: bool

    @property
    def size(self) -> int:
        """Entries."""
        return self.rows * self.columns

    def slabs(self, reader: Reader) -> Iterator[Singles]:
        """Its entries, whole rows where they are not too long: (models, n) float32, in order; errors as `Reader.flat`."""
        step = max(1, N_ENTRIES // self.columns) * self.columns
        step = step if self.columns <= N_ENTRIES else N_ENTRIES
        for start in range(0, self.size, step):
            stop = min(start + step, self.size)
            yield np.stack([
                reader.flat(ref, start, stop).to(torch.float32).numpy() for ref in self.refs
            ])  # fmt: skip


def shared(child: Checkpoint, parents: Sequence[Checkpoint]) -> tuple[Shared, ...] | None:
    """The tensors of a child; None where a parent has not all of them under these names and in these shapes."""
    tables = [{ref.name: ref for ref in weights(parent.tensors)} for parent in parents]
    found = []
    for ref in weights(child.tensors):
        if not ref.n_params:
            continue
        refs = [ref, *(table[ref.name] for table in tables if ref.name in table)]
        if len(refs) <= len(tables) or any(other.shape != ref.shape for other in refs):
            return None
        rows = ref.shape[0] if len(ref.shape) > 1 else 1
        found.append(Shared(tuple(refs), rows, ref.n_params // rows, len(ref.shape) < 2))  # noqa: PLR2004
    return tuple(found) or None
