"""Slices: some elements of each model of a step, as they are stored, and of the base.

A method that asks for one gets float32, with the base taken off where it works on task vectors; what `engine.ops`
has a kernel for reads the stored bytes themselves, so that nothing in between is ever written.
"""

from collections.abc import Sequence
from typing import overload

import torch

from engine import kernels
from registry.errors import NonFinite
from registry.header import TensorRef


class Slices(Sequence[torch.Tensor]):
    """The same elements of n models: (n, *shape) float32 for who asks.

    Attributes:
        stored: one flat tensor per model, bfloat16 or float32.
        base: the base's, if the method works on task vectors; those are what is given then.
        origin: what a result is compared with: the base, if there is one, else the first model; flat.
        shape: of each.
        closing: what is to become of the result, if the last sum over the models is it; None: that is not asked for.
    """

    def __init__(
        self,
        refs: Sequence[TensorRef],
        stored: Sequence[torch.Tensor],
        shape: torch.Size,
        base: tuple[TensorRef, torch.Tensor] | None = None,
        *,
        deltas: bool = True,
    ) -> None:
        self._refs = (*refs, base[0]) if base else tuple(refs)
        self._given = [*stored, *([base[1]] if base else [])]
        self.stored = [_readable(s) for s in stored]
        origin = _readable(base[1]) if base else None
        self.base = origin if deltas else None
        self.origin = self.stored[0] if origin is None else origin
        self.shape = shape
        self.closing: kernels.Closing | None = None
        self._closed: tuple[torch.Tensor, int] | None = None
        self._floats: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.stored)

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
            bad = kernels.read_floats(self.stored[place], self.base, made)
            if bad is not None:
                self.refuse(len(self) if bad else place)
            self._floats[place] = made
        return self._floats[place]

    def close(self, result: torch.Tensor) -> None:
        """Remember that this result was closed."""
        self._closed = (result, result._version)  # noqa: SLF001 - the one way torch tells of changes in place

    def is_closed(self, result: torch.Tensor) -> bool:
        """Tell whether a result is the one that was closed last, and has not been changed since."""
        return self._closed is not None and (
            self._closed[0] is result and self._closed[1] == result._version  # noqa: SLF001
        )

    def refuse(self, place: int) -> None:
        """Raise `NonFinite` for the model at this place, or for the base, whose place is behind the last."""
        beyond = bool(torch.isfinite(self._given[place]).all())
        raise non_finite(
            self._refs[place], "numbers beyond float32" if beyond else "NaN or infinity"
        )


def stored_of(tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """The models as kernels read them, flat, and the base that is still to be taken off."""
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
    """
    if place >= 0 and isinstance(tensors, Slices):
        tensors.refuse(place)
    return place < 0


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


def _readable(stored: torch.Tensor) -> torch.Tensor:
    """A tensor in a dtype that kernels read."""
    return stored if stored.dtype in kernels.CODES else stored.float()
