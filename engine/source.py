"""Sources: where the tensors of a merge come from, stored ones and ones that are computed when they are read.

Who makes one: whatever brings models together before a merge (adapters, vocabularies, alignment). Who reads it:
`engine.run`, by `load`. A source of sources is a source: an adapter on a model whose vocabulary was changed is one.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.kernels import is_finite
from engine.reader import Reader
from engine.slices import non_finite
from registry.header import TensorRef


@dataclass(frozen=True)
class Made(ABC):
    """A tensor that is computed from others when it is read, always whole.

    Attributes:
        name: in the model it belongs to.
        dtype: as safetensors spells it: that of the tensor it stands for.
        shape: its own.
        sources: what it is computed from.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sources: tuple["Source", ...]

    @abstractmethod
    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The tensor, (*shape) float32, from those of `sources`, float32, which it may overwrite."""

    @property
    def n_params(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes read from files for it."""
        return sum(source.n_bytes for source in self.sources)

    @property
    def file(self) -> Path:
        """The file its first source is in."""
        return self.sources[0].file


Source = TensorRef | Made


def refs(source: Source) -> list[TensorRef]:
    """The stored tensors that a source reads, in order."""
    if isinstance(source, TensorRef):
        return [source]
    return [ref for each in source.sources for ref in refs(each)]


def stored(source: Source) -> TensorRef:
    """A source that is stored, as those of copies and of slices are.

    Raises:
        TypeError: it is computed.
    """
    if not isinstance(source, TensorRef):
        message = f"{source.name} is computed and has no slices"
        raise TypeError(message)
    return source


def load(reader: Reader, source: Source) -> torch.Tensor:
    """A whole source in float32, (*shape).

    Raises:
        NonFinite: NaN or infinity in a stored tensor.
        UnsupportedDtype, FileChanged, RunFailed: as `engine.reader.Reader.flat`.
    """
    if isinstance(source, TensorRef):
        return finite(source, reader.flat(source, 0, source.n_params)).reshape(source.shape)
    return source.compute([load(reader, each) for each in source.sources])


def finite(ref: TensorRef, stored: torch.Tensor) -> torch.Tensor:
    """Stored values in float32; a tensor that is float32 already is itself the result.

    Raises:
        NonFinite: naming file and tensor.
    """
    values = stored.to(torch.float32)
    if not is_finite(values):
        what = "NaN or infinity" if not torch.isfinite(stored).all() else "numbers beyond float32"
        raise non_finite(ref, what)
    return values
