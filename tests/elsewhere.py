"""A device that is none: tensors of which the processor cannot see the numbers, and which refuse what devices differ in.

Inside of `Elsewhere`, what is made or copied to `THERE` is there. Steps that all devices round alike are carried out
by the processor behind the scenes; any other step, a step on tensors of two places, NumPy's view and a look at the
memory are errors. So whoever gets the right result here has a good chance of it on a device that this machine lacks.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

THERE = torch.device("meta")
"""A name that torch knows everywhere, and takes for a place whose numbers nobody can look at."""

_ALIKE = {
    "abs", "add", "all", "clamp", "div", "eq", "ge", "gt", "hardshrink", "lt", "mul", "ne", "neg", "nonzero",
    "reciprocal", "relu", "sign", "sub", "where",
}  # fmt: skip
"""Steps that all devices do alike: rounded once, to the nearest, or exact; but for the sign of a zero that relu leaves."""

_MOVES = {
    "_local_scalar_dense", "_to_copy", "_unsafe_view", "alias", "clone", "copy", "detach", "empty", "empty_like",
    "expand", "fill", "full_like", "new_empty", "new_full", "scalar_tensor", "select", "slice", "stack", "unbind",
    "unsqueeze", "view", "zeros", "zeros_like",
}  # fmt: skip
"""Steps that change no number."""


class Place(torch.Tensor):
    """A tensor that is there."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Self:
        """Put a tensor of the processor's there."""
        made: Self = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=THERE,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do a step there."""
        del types
        return _done(func, args, dict(kwargs or {}))


class Elsewhere(TorchDispatchMode):
    """The device, for this thread, and the names of the steps that were done there."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do a step there, if it belongs there."""
        del types
        given = dict(kwargs or {})
        asked = given.get("device")
        tensors = tree_leaves((args, given))
        if any(isinstance(x, Place) for x in tensors) or (asked and torch.device(asked) == THERE):
            self.steps.append(_name(func))
            return _done(func, args, given)
        return func(*args, **given)


def _done(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Carry out a step behind the scenes, if it is one that all devices do alike."""
    name, asked = _name(func), kwargs.get("device")
    _refuse(name, args, kwargs)
    stays = asked is None or torch.device(asked) == THERE
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    inner, given = tree_map(_held, (tuple(args), kwargs))
    made = func(*inner, **given)
    return (
        tree_map(lambda x: Place(x) if isinstance(x, torch.Tensor) else x, made) if stays else made
    )


def _refuse(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise where devices differ."""
    if name not in _ALIKE | _MOVES:
        message = f"{name} is no step that all devices do alike"
        raise AssertionError(message)
    if name == "div" and not (isinstance(args[1], Place) and args[1].is_floating_point()):
        message = "a quotient by a number is a product with its inverse on some devices"
        raise AssertionError(message)
    if name in {"add", "sub"} and kwargs.get("alpha", 1) != 1:
        message = f"{name} with a factor may be one fused step"
        raise AssertionError(message)
    others = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.dim()]
    if name not in {"copy", "_to_copy"} and not all(isinstance(x, Place) for x in others):
        message = f"{name} has tensors of two places"
        raise AssertionError(message)


def _held(x: Any) -> Any:
    """A tensor behind the scenes."""
    return x.held if isinstance(x, Place) else x


def _name(func: Any) -> str:
    """What a step is called, in place or not."""
    return str(func.overloadpacket.__name__).removesuffix("_")
