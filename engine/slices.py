"""Slices: some elements of each model of a step, as they are stored, and of the base.

A method that asks for one gets float32, with the base taken off where it works on task vectors; what `engine.ops`
has a kernel for reads the stored bytes themselves, so that nothing in between is ever written.
"""

from collections.abc import Sequence
from typing import overload

import torch

from engine import kernels
from engine.kernels import Stored
from engine.reader import Region
from registry.errors import NonFinite
from registry.header import TensorRef


class Slices(Sequence[torch.Tensor]):
    """The same elements of n models: (n, *shape) float32 for who asks.

    Attributes:
        parts: one per model, flat: as stored, in memory or still in its file.
        part_of_base: the base's, if the method works on task vectors.
        shape: of each.
        closing: what is to become of the result, if the last sum over the models is it; None: that is not asked for.
    """

    def __init__(
        self,
        refs: Sequence[TensorRef],
        parts: Sequence[Stored],
        shape: torch.Size,
        base: tuple[TensorRef, Stored] | None = None,
        *,
        deltas: bool = True,
    ) -> None:
        self._refs = (*refs, base[0]) if base else tuple(refs)
        given = [*parts, *([base[1]] if base else [])]
        self._given = {
            i: _in_memory(s) for i, s in enumerate(given) if s.dtype not in kernels.CODES
        }
        self._parts = [
            self._given[i].float() if i in self._given else s for i, s in enumerate(given)
        ]
        self._n = len(parts)
        self._has_base = base is not None
        self._deltas = deltas and base is not None
        self.shape = shape
        self.closing: kernels.Closing | None = None
        self._closed: torch.Tensor | None = None
        self._floats: dict[int, torch.Tensor] = {}

    @property
    def parts(self) -> list[Stored]:
        """One per model, flat, bfloat16 or float32: in memory, or still in its file."""
        return self._parts[: self._n]

    @property
    def part_of_base(self) -> Stored | None:
        """The base's, if the method works on task vectors; those are what is given then."""
        return self._parts[-1] if self._deltas else None

    @property
    def part_of_origin(self) -> Stored:
        """What a result is compared with: the base's, if there is one, else the first model's."""
        return self._parts[-1] if self._has_base else self._parts[0]

    @property
    def stored(self) -> list[torch.Tensor]:
        """`parts`, read."""
        return [self._read(place) for place in range(self._n)]

    @property
    def base(self) -> torch.Tensor | None:
        """`part_of_base`, read."""
        return self._read(-1) if self._deltas else None

    @property
    def origin(self) -> torch.Tensor:
        """`part_of_origin`, read."""
        return self._read(-1 if self._has_base else 0)

    def _read(self, place: int) -> torch.Tensor:
        """One part in memory, where it stays.

        Raises:
            FileChanged, RunFailed: as `engine.reader.Reader.flat`.
        """
        part = self._parts[place] = _in_memory(self._parts[place])
        return part

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, place: int) -> torch.Tensor: ...
    @overload
    def __getitem__(self, place: slice) -> list[torch.Tensor]: ...
    def __getitem__(self, place: int | slice) -> torch.Tensor | list[torch.Tensor]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        if place not in self._floats:
            made = torch.empty(self.shape)
            bad = kernels.read_floats(self._read(place), self.base, made)
            if bad is not None:
                self.refuse(len(self) if bad else place)
            self._floats[place] = made
        return self._floats[place]

    def close(self, result: torch.Tensor) -> None:
        """Remember that this result was closed."""
        self._closed = result

    def is_closed(self, result: torch.Tensor) -> bool:
        """Tell whether a result is the one that was closed last, in whatever shape."""
        return self._closed is not None and (
            result is self._closed or result._base is self._closed  # noqa: SLF001 - the one way to tell
        )

    def refuse(self, place: int) -> None:
        """Raise `NonFinite` for the model at this place, or for the base, whose place is behind the last."""
        given = self._given.get(place)
        beyond = given is not None and bool(torch.isfinite(given).all())
        raise non_finite(
            self._refs[place], "numbers beyond float32" if beyond else "NaN or infinity"
        )


def parts_of(tensors: Sequence[torch.Tensor]) -> tuple[list[Stored], Stored | None]:
    """The models, flat, in memory or in their files, and the base that is still to be taken off."""
    if isinstance(tensors, Slices):
        return tensors.parts, tensors.part_of_base
    return [tensor.reshape(-1) for tensor in tensors], None


def stored_of(tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """The models in memory, flat, and the base that is still to be taken off."""
    if isinstance(tensors, Slices):
        return tensors.stored, tensors.base
    return [tensor.reshape(-1) for tensor in tensors], None


def shape_of(tensors: Sequence[torch.Tensor]) -> torch.Size:
    """The shape of each model."""
    return tensors.shape if isinstance(tensors, Slices) else tensors[0].shape


def is_done(tensors: Sequence[torch.Tensor], place: int) -> bool:
    """Tell whether a kernel went to the end: it gives up where it finds a number that is not finite.

    Models as they are stored must not hold any; what was computed may.

    Raises:
        NonFinite: a stored model, the one at this place, does.
        FileChanged, RunFailed: a model cannot be read.
    """
    if isinstance(tensors, Slices):
        if place >= 0:
            tensors.refuse(place)
        if place == kernels.UNREADABLE:
            stored_of(tensors)
    return place == -1


def result_of(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Room for a result, of the models' shape; none where nothing but its rounded form will be needed."""
    if closing_of(tensors) is not None:
        return torch.empty(shape_of(tensors), device="meta")
    held = None if isinstance(tensors, Slices) else tensors[0].device
    return torch.empty(shape_of(tensors), device=held)


def closing_of(tensors: Sequence[torch.Tensor]) -> kernels.Closing | None:
    """What kernels are to make of a sum over the models."""
    return tensors.closing if isinstance(tensors, Slices) else None


def done(tensors: Sequence[torch.Tensor], result: torch.Tensor) -> torch.Tensor:
    """The result of a kernel that went to the end; it is closed where that was asked for."""
    if isinstance(tensors, Slices) and tensors.closing is not None:
        tensors.close(result)
    return result


def non_finite(ref: TensorRef, what: str = "NaN or infinity") -> NonFinite:
    """The error for a tensor that holds what is no number."""
    message = f"tensor {ref.name} of {ref.file} holds {what}"
    return NonFinite(message, hint="reg stats counts them; merge without this model")


def _in_memory(part: Stored) -> torch.Tensor:
    """A part that has been read."""
    return part.read() if isinstance(part, Region) else part
